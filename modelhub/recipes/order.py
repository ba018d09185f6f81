"""The order in which a training sees its rows: a function of seed and step, so that it can be taken up anywhere."""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray


def steps_of(rows: int, *, batch_size: int, steps_per_epoch: int | None) -> int:
    """How many batches an epoch has: those asked for, or as many as show each row once."""
    return steps_per_epoch or math.ceil(rows / batch_size)


def places(
    rows: int, *, batch_size: int, steps: int, seed: int, epoch: int, skip: int = 0
) -> Iterator[NDArray[np.int64]]:
    """The indices of the rows of each batch of an epoch, the first epoch being 1, from the `skip`-th batch on.

    Batches go on from epoch to epoch: an epoch of fewer steps than a whole pass sees other rows in the next. Each pass
    sees every row once in an order of its own; its last batch has what is left.
    """
    in_pass = math.ceil(rows / batch_size)
    drawn, order = -1, np.empty(0, np.int64)
    for number in range((epoch - 1) * steps + skip, epoch * steps):
        whole, place = divmod(number, in_pass)
        if whole != drawn:
            drawn, order = whole, np.random.default_rng((seed, whole)).permutation(rows)
        yield order[place * batch_size : (place + 1) * batch_size]
