"""Shadows: a version that is asked what another has just answered; compared and counted, never returned nor billed.

It is asked after the answer has gone, and only while nothing else waits on the host: under load it is left out first.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from inference.engines.base import Tensor, Tensors
from inference.plane.directory import VersionEntry
from inference.plane.versions import LoadedVersion, Versions
from inference.queueing import HostRows
from inference.work import Reply, Work
from tenants.errors import Refusal

MOST_UNDER_WAY = 32
SECONDS = 5.0
# Numbers agree within one hundredth, as far as an int8 model strays from the float model that it was made of.
RELATIVE, ABSOLUTE = 1e-2, 1e-3
Key = tuple[str, str, str]


@dataclass(slots=True)
class ShadowTally:
    """How often a shadow agreed with the answer, differed, failed, or was left out, since this process began."""

    agreed: int = 0
    differed: int = 0
    failed: int = 0
    dropped: int = 0


class Comparison:
    """The receipt of a shadow's work: nothing for the ledger, and at the end a count."""

    def __init__(self, answered: Tensors, tally: ShadowTally, ended: Callable[[], None]) -> None:
        self._answered = answered
        self._tally = tally
        self._ended = ended
        self._found: Tensors = {}

    def keep(self, outputs: Tensors) -> Reply:
        """Takes the place of an answer being written; in the engine's thread."""
        self._found = copied(outputs)
        return Reply(b"")

    def settle(self, error: Exception | None) -> None:
        self._ended()
        if error is not None:
            self._tally.failed += 1
        elif agree(self._answered, self._found):
            self._tally.agreed += 1
        else:
            self._tally.differed += 1


class Shadows:
    """The shadows of this process: what is under way, and the counts."""

    def __init__(self, versions: Versions, host: HostRows, announce: Callable[[LoadedVersion], None]) -> None:
        self._versions = versions
        self._host = host
        self._announce = announce
        self._under_way = 0
        self._tallies: dict[Key, ShadowTally] = {}

    def of(self, key: Key) -> ShadowTally:
        """The tally of a shadow, by (tenant's id, deployment's name, MODEL@NUMBER)."""
        return self._tallies.setdefault(key, ShadowTally())

    def items(self) -> Iterator[tuple[Key, ShadowTally]]:
        yield from list(self._tallies.items())

    def keep_only(self, keys: set[Key]) -> None:
        """Forgets what is deployed no longer."""
        for key in self._tallies.keys() - keys:
            del self._tallies[key]

    def follow(self, done: Work, outputs: Tensors, entry: VersionEntry, *, deployment: str, now: float) -> None:
        """Asks the shadow what `done` was answered with `outputs`, unless the host has better to do."""
        tally = self.of((entry.tenant_id, deployment, entry.label))
        version = self._versions.loaded(entry.id, use=True)
        if version is None:
            self._versions.preload(entry)
        if version is None or self._host.queued or self._under_way >= MOST_UNDER_WAY:
            tally.dropped += 1
            return
        if not _takes(version, done):
            tally.failed += 1
            return
        comparison = Comparison(outputs, tally, self._ended)
        work = Work(
            done.rows, now + SECONDS, comparison.keep, inputs=done.inputs, raw=done.raw, receipt=comparison,
            bucket=done.bucket, queued_at=now,
        )  # fmt: skip
        try:
            version.queue.put(work)
        except Refusal:
            tally.dropped += 1
            return
        self._under_way += 1
        self._announce(version)

    def _ended(self) -> None:
        self._under_way -= 1


def copied(outputs: Tensors) -> dict[str, Tensor]:
    """Outputs that stay as they are when the engine runs on."""
    return {name: np.array(tensor) for name, tensor in outputs.items()}


def agree(one: Tensors, other: Tensors) -> bool:
    """Whether two versions put out the same: names, shapes, and values within the tolerance."""
    return one.keys() == other.keys() and all(_close(tensor, other[name]) for name, tensor in one.items())


def _close(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape:
        return False
    if one.dtype.kind == "f" and other.dtype.kind == "f":
        return bool(np.allclose(one, other, rtol=RELATIVE, atol=ABSOLUTE, equal_nan=True))
    return bool(np.array_equal(one, other))


def _takes(version: LoadedVersion, work: Work) -> bool:
    """Whether the shadow can be asked with this input: raw rows need its recipe, tensors its names and shapes."""
    if work.inputs is None:
        return version.served is not None
    specs = {spec.name: spec for spec in version.entry.signature.inputs}
    return specs.keys() == work.inputs.keys() and all(
        tensor.dtype == specs[name].numpy
        and len(tensor.shape) == len(specs[name].shape)
        and all(size in (-1, got) for size, got in zip(specs[name].shape[1:], tensor.shape[1:], strict=True))
        for name, tensor in work.inputs.items()
    )
