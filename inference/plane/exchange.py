"""One exchange: a request that has come whole, what becomes of it on its way, and the answer that goes back."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from inference.engines.base import Tensors
from inference.plane import clock
from inference.plane.heads import Head
from inference.work import Reply, Work
from tenants.ledger.usage_sums import Counted

if TYPE_CHECKING:
    from inference.plane.cache import Key
    from inference.plane.directory import DeploymentEntry, KeyEntry, VersionEntry
    from inference.plane.leases import Spent
    from inference.plane.routing import Target
    from inference.plane.statistics import Tally
    from inference.plane.traffic import Gauge
    from inference.plane.versions import LoadedVersion
    from inference.protocols.base import Call, Found

HeaderList = list[tuple[bytes, bytes]]


# What is made for each request writes out its constructor, for one that dataclasses make is not compiled.
@dataclass(slots=True, init=False)
class Request:
    """A whole HTTP request; `client` is the address at the other end.

    A body whose tensors are `seen_in_place` is a view of what came from the socket.
    """

    head: Head
    body: bytes | memoryview
    client: str

    def __init__(self, head: Head, body: bytes | memoryview, client: str = "") -> None:
        self.head = head
        self.body = body
        self.client = client


@dataclass(slots=True, init=False)
class Answer:
    """What goes back, but for the headers of the connection."""

    status: int
    body: bytes
    headers: HeaderList

    def __init__(self, status: int, body: bytes, headers: HeaderList) -> None:
        self.status = status
        self.body = body
        self.headers = headers


Deliver = Callable[[Answer], None]
# What is known so far, as JSON.
Partial = Callable[[bytes], None]


class Waiting(Exception):
    """Something on the way is cold. When what is awaited is there, the way is walked again from its beginning."""

    def __init__(self, awaited: Awaitable[Any]) -> None:
        super().__init__()
        self.awaited = awaited


class Exchange:
    """A request on its way through the plane. It is the receipt of its work, too: what the ledger gets to know.

    Its caller hears of what is known so far by `partial`, where it takes that; it may have `left`.
    """

    __slots__ = (
        "admitted_ms", "cache_key", "call", "caught_up", "cold", "deadline", "deliver", "deployment", "done", "found",
        "id", "key", "left", "outputs", "partial", "place", "request", "spent", "started", "tally", "target", "task",
        "timer", "version", "work",
    )  # fmt: skip

    def __init__(self, request: Request, deliver: Deliver, partial: Partial | None = None) -> None:
        self.request = request
        self.deliver = deliver
        self.partial = partial
        self.id = new_request_id()
        self.started = time.monotonic()
        self.admitted_ms = int(clock.at(self.started) * 1000)
        self.deadline = 0.0
        self.done = False
        self.left = False
        self.caught_up = False
        self.cold = False
        self.found: Found | None = None
        self.key: KeyEntry | None = None
        self.deployment: DeploymentEntry | None = None
        self.version: LoadedVersion | None = None
        self.call: Call | None = None
        self.spent: Spent | None = None
        self.target: Target | None = None
        self.place: Gauge | None = None
        self.outputs: Tensors | None = None
        self.cache_key: Key | None = None
        self.work: Work | None = None
        self.tally: Tally | None = None
        self.task: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None

    @property
    def served(self) -> "VersionEntry":
        """The version that answers, once it is known."""
        assert self.version is not None
        return self.version.entry

    def record(self, work: Work) -> tuple[bytes, Counted]:
        """What the ledger gets to know: as `tenants.ledger.usage.encode` would write it, and the same as figures.

        Names hold nothing that JSON would escape.
        """
        assert self.key is not None
        assert self.deployment is not None
        version, key_id, name = self.served, self.key.id, self.deployment.name
        at, tenant_id, label, size = self.admitted_ms, version.tenant_id, version.label, len(self.request.body)
        rows, compute_us = work.rows, work.compute_us
        payload = (
            f'["{self.id}",{at},"{tenant_id}","{key_id}","{name}","{label}",'
            f'{{"requests":1,"predictions":{rows},"compute_us":{compute_us},"input_bytes":{size}}}]'
        )
        return payload.encode(), (at, tenant_id, key_id, name, label, rows, compute_us, size)

    def keeping(self, render: Callable[[Tensors], Reply]) -> Callable[[Tensors], Reply]:
        """The renderer, which also keeps what the engine put out; called in the engine's thread."""

        def keep(outputs: Tensors) -> Reply:
            self.outputs = {name: np.array(tensor) for name, tensor in outputs.items()}
            return render(outputs)

        return keep

    def leave_place(self) -> None:
        """Gives back the place among its deployment's requests, if it has one."""
        if self.place is not None:
            self.place.leave()
            self.place = None


class _RequestIds:
    """UUIDv7s. Their random digits come from the system, many at a time; those of one millisecond begin alike."""

    def __init__(self) -> None:
        self._digits = ""
        self._at = 0
        self._moment_ms = -1
        self._beginning = ""

    def new(self) -> str:
        moment_ms = time.time_ns() // 1_000_000
        if moment_ms != self._moment_ms:
            moment = f"{moment_ms:012x}"
            self._moment_ms, self._beginning = moment_ms, f"{moment[:8]}-{moment[8:]}-7"
        at = self._at
        if at + 18 > len(self._digits):
            self._digits, at = os.urandom(8192).hex(), 0
        self._at = at + 18
        digits = self._digits
        return f"{self._beginning}{digits[at : at + 3]}-a{digits[at + 3 : at + 6]}-{digits[at + 6 : at + 18]}"


_ids: Final = _RequestIds()


def new_request_id() -> str:
    """A UUIDv7: 48 bits of Unix milliseconds, then random bits."""
    return _ids.new()
