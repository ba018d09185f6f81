"""The response cache: what a version put out for an input, kept for deployments that ask for it.

Outputs are kept rather than answers, because an answer names its own request. Bounded in bytes over all tenants: when
it is full, the tenant that holds most gives up what it used longest ago, so that nobody crowds the others out.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from inference.engines.base import Tensor, Tensors

# Headers that say how the body is to be read.
READ_BY = (b"content-type", b"content-encoding", b"inference-header-content-length")
OVERHEAD_BYTES = 512
# One answer takes at most this part of the whole.
LARGEST_PART = 16


class Key(NamedTuple):
    """Whose, which version's, and for which input."""

    tenant_id: str
    version_id: str
    digest: bytes


class Kept(NamedTuple):
    """Outputs, when they were put here (monotonic seconds), and the bytes that they take."""

    outputs: Tensors
    at: float
    size: int


class Cache:
    """Outputs by key, each tenant's in the order of their use."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.held_bytes = 0
        self.hits = 0
        self.misses = 0
        self.evictions = 0
        self._kept: dict[str, OrderedDict[Key, Kept]] = {}
        self._bytes: dict[str, int] = {}

    def get(self, key: Key, *, seconds: float, now: float) -> Tensors | None:
        """What was put here less than so many seconds ago."""
        mine = self._kept.get(key.tenant_id)
        found = None if mine is None else mine.get(key)
        if found is not None and now - found.at >= seconds:
            self._remove(key)
            found = None
        if mine is None or found is None:
            self.misses += 1
            return None
        self.hits += 1
        mine.move_to_end(key)
        return found.outputs

    def put(self, key: Key, outputs: Tensors, *, now: float) -> None:
        """Keeps outputs, unless they are too large."""
        size = OVERHEAD_BYTES + sum(_size(tensor) for tensor in outputs.values())
        if size > self.limit_bytes // LARGEST_PART:
            return
        self._remove(key)
        self._kept.setdefault(key.tenant_id, OrderedDict())[key] = Kept(outputs, now, size)
        self._bytes[key.tenant_id] = self._bytes.get(key.tenant_id, 0) + size
        self.held_bytes += size
        while self.held_bytes > self.limit_bytes:
            fullest = max(self._bytes, key=self._bytes.__getitem__)
            self._remove(next(iter(self._kept[fullest])))
            self.evictions += 1

    def _remove(self, key: Key) -> None:
        mine = self._kept.get(key.tenant_id)
        gone = None if mine is None else mine.pop(key, None)
        if mine is None or gone is None:
            return
        self.held_bytes -= gone.size
        self._bytes[key.tenant_id] -= gone.size
        if not mine:
            del self._kept[key.tenant_id], self._bytes[key.tenant_id]


def key_of(
    tenant_id: str, version_id: str, *, reader: str, headers: Mapping[bytes, bytes], body: bytes | memoryview
) -> Key:
    """The key of a request; `reader` names the protocol and verb, since two may read the same bytes differently."""
    digest = hashlib.blake2b(digest_size=32)
    for part in (reader.encode(), *(headers.get(name, b"") for name in READ_BY)):
        digest.update(len(part).to_bytes(4) + part)
    digest.update(body)
    return Key(tenant_id, version_id, digest.digest())


def _size(tensor: Tensor) -> int:
    if tensor.dtype.kind != "O":
        return int(tensor.nbytes)
    return sum(len(one) + 64 for one in np.ravel(tensor))
