"""Which rows each training step takes: passes over all of them, each in an order of its own."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

# Rows of so many batches are sorted by length before they are cut, so that a batch has little padding.
POOL = 32

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Passes:
    """Batches of row numbers, the same for the same seed. `lengths` has one element a row; all are alike without it.

    Each pass takes each row once. Epochs of `steps` batches go on from one to the next: where an epoch is less than a
    pass, the next one takes other rows.
    """

    rows: int
    batch_size: int
    seed: int
    steps: int
    lengths: Rows | None = None

    @property
    def batches_a_pass(self) -> int:
        return math.ceil(self.rows / self.batch_size)

    def epoch(self, number: int, *, skip: int = 0) -> Iterator[Rows]:
        """The row numbers of each batch of an epoch, the first being 1, from the `skip`-th batch on."""
        return islice(self._from((number - 1) * self.steps + skip), self.steps - skip)

    def _from(self, batch: int) -> Iterator[Rows]:
        number, place = divmod(batch, self.batches_a_pass)
        while True:
            yield from self._pass(number)[place:]
            number, place = number + 1, 0

    def _pass(self, number: int) -> list[Rows]:
        draw = np.random.default_rng((self.seed, number))
        order = draw.permutation(self.rows)
        if self.lengths is None:
            return [order[at : at + self.batch_size] for at in range(0, self.rows, self.batch_size)]
        batches = []
        for at in range(0, self.rows, POOL * self.batch_size):
            pool = order[at : at + POOL * self.batch_size]
            pool = pool[np.argsort(self.lengths[pool], kind="stable")]
            batches += [pool[of : of + self.batch_size] for of in range(0, len(pool), self.batch_size)]
        return [batches[place] for place in draw.permutation(len(batches))]
