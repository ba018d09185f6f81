"""Versions in memory, within a budget of bytes: each is loaded once, however many requests wait for it."""

import asyncio
import contextlib
import logging
import time
from collections import OrderedDict
from collections.abc import Generator, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from inference import batching
from inference.batching import Joining, More
from inference.engines.base import Tensors, Unwritten, blank
from inference.engines.piped import Piped
from inference.plane import loading
from inference.plane.directory import VersionEntry
from inference.plane.loading import Loaded
from inference.plane.statistics import bucket, no_counts
from inference.queueing import HostRows, Queue
from inference.work import Work
from modelhub import heap, priority
from tenants.errors import Unavailable

if TYPE_CHECKING:
    from inference.plane.exchange import Exchange
    from inference.protocols.base import Call

RETRY_SECONDS = 5.0
# What was let go is given back to the system when it is so much: it takes the C library a while, and all its callers.
TRIM_BYTES = 8 * 1024**2
logger = logging.getLogger(__name__)


class NoRoom(Exception):
    """What nobody has asked for yet would make others leave."""


@dataclass(slots=True)
class Counters:
    """What happened to the versions in memory since the process began; loading times as a histogram of microseconds."""

    hits: int = 0
    waits: int = 0
    loads: int = 0
    load_us: list[int] = field(default_factory=no_counts)
    failures: int = 0
    evictions: int = 0

    def asked(self, *, cold: bool) -> None:
        """A request has its version, at once or after a wait for it."""
        if cold:
            self.waits += 1
        else:
            self.hits += 1


class LoadedVersion:
    """A version ready to answer: its engine, its recipe's serving side, and its queue.

    Of what was `measured`, `inline` says that its batches are cheaper than a thread hop. `was_alone` says that the last
    batch was a lone request: then the next is likely to be one, too. `brought` are the exchanges whose work the event
    loop runs, or hands on, at the end of its turn. `known` is what a protocol remembers of requests to it.
    """

    def __init__(self, entry: VersionEntry, loaded: Loaded, queue: Queue) -> None:
        self.entry = entry
        self.tenant_id = entry.tenant_id
        self.engine = loaded.engine
        self.served = loaded.served
        self.pipeline = loaded.pipeline
        self.measured = measured = loaded.measured
        self.inline, self.row_seconds, self.alone_seconds = measured.inline, measured.seconds[1], measured.alone_seconds
        self.memory_bytes = loaded.memory_bytes
        self.queue = queue
        self.brought: list[Exchange] = []
        self.known: dict[Any, Any] = {}
        self.was_alone = True
        self.batched: bool = entry.manifest["serving"].get("batched", True)
        self._alone = loaded.alone
        self._helpers = loaded.helpers
        self._to_close = [engine for engine in (loaded.engine, loaded.alone) if engine is not None]
        self._leaving = False
        self._joining = Joining(
            best_rows=self.measured.best_rows,
            batches=queue.batches,
            shapes=any(size < 0 for spec in entry.signature.inputs for size in spec.shape[1:]),
            batched=self.batched,
            nothing=None if self.pipeline is None else {spec.name: blank(spec, 0) for spec in entry.signature.outputs},
        )

    def run(self, batch: list[Work], *, alone: bool = False, short: bool = False) -> None:
        """Runs one batch, in the thread that calls; `alone` says that nothing else wants the processors.

        `short` is what it was taken as: what joins it makes it no longer, and of a large request as many rows run.
        """
        prepare = self.prepare if self.served is not None else None
        engine = self.engine
        if alone and self._alone is not None:
            engine = self._alone
            if self._helpers is not None:
                self._helpers.keep_away()
        joining = self._joining
        if batch and (most := self.queue.most_rows(batch[0].bucket, short=short)) < joining.best_rows:
            joining = replace(joining, best_rows=most)
        try:
            batching.run(batch, engine=engine, prepare=prepare, joining=joining, beside=None if alone else self._more)
        finally:
            self.was_alone = len(batch) == 1
            self.queue.ran(batch)
            if self._leaving:
                self.leave()

    def stream(self, work: Work) -> Generator[dict[str, Any], None, Tensors]:
        """The steps of an answer to one row, and its outputs, in the thread that calls; `give_back` ends it."""
        assert isinstance(self.engine, Piped)
        assert work.inputs is not None
        return self.engine.stream(work.inputs)

    def give_back(self) -> None:
        """A stream has ended."""
        self.queue.returned()
        if self._leaving:
            self.leave()

    def is_quick(self, call: "Call") -> bool:
        """Whether this is one row whose preparing costs little; of a file only what it says of itself is looked at."""
        if call.rows != 1 or not call.raw:
            return call.rows == 1 and not self.is_long(call.bucket)
        return self.served is not None and self.served.is_quick(call.raw[0])

    def is_long(self, bucket: int) -> bool:
        """Whether rows of this bucket take longer than what was measured; of a pipeline without a sample, all may."""
        if self.pipeline is None:
            return False
        return self.queue.usual_bucket is None or bucket > self.queue.usual_bucket

    def leave(self) -> None:
        """Closes the engines as soon as all that is queued has run; nothing more comes."""
        self._leaving = True
        while self._to_close and not self.queue.in_use:
            with contextlib.suppress(IndexError):  # another thread was faster
                self._to_close.pop().close()

    def prepare(self, works: list[Work], more: More | None) -> Unwritten:
        """The raw rows of these works, and of what joins them, for the one input."""
        assert self.served is not None
        rows = batching.read(works, self.served.read, more)
        return Unwritten(self.entry.signature.inputs[0], rows, self.served.write)

    def _more(self, rows: int, most: int) -> list[Work]:
        return self.queue.take_more(rows, most, time.monotonic())


class Versions:
    """The versions in memory. Loading happens in a thread of its own and never holds up those that are loaded.

    A load that would not fit makes the versions leave that were used longest ago; those in use stay. What is newly
    deployed is loaded beforehand while there is room.
    """

    def __init__(self, *, queue_limit: int, host: HostRows, budget_bytes: int, threads: int) -> None:
        self.counters = Counters()
        self.budget_bytes = budget_bytes
        self.held_bytes = 0
        self._queue_limit = queue_limit
        self._host = host
        self._threads = threads
        self._loaded: OrderedDict[str, LoadedVersion] = OrderedDict()
        self._loading: dict[str, asyncio.Future[LoadedVersion]] = {}
        self._failed: dict[str, tuple[float, str]] = {}
        self._wanted: dict[str, VersionEntry] = {}
        self._until_loaded: Mapping[str, str] = {}
        self._preload: dict[str, VersionEntry] = {}
        self._beforehand: set[str] = set()
        self._preloading: asyncio.Task[None] | None = None
        self._weights: dict[str, int] = {}
        self._let_go_bytes = 0
        self._loader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="load", initializer=priority.give_way)

    def __len__(self) -> int:
        return len(self._loaded)

    def loaded(self, version_id: str, *, use: bool = False) -> LoadedVersion | None:
        """The version if it is in memory; one that is to be used leaves after all others."""
        found = self._loaded.get(version_id)
        if found is not None and found.engine.gone:
            self.unload(version_id)
            return None
        if found is not None and use:
            self._loaded.move_to_end(version_id)
        return found

    def states(self) -> dict[str, str]:
        """Every version that is loaded or being loaded, with its state in TensorFlow Serving's words."""
        return dict.fromkeys(self._loading, "LOADING") | dict.fromkeys(self._loaded, "AVAILABLE")

    async def load(self, entry: VersionEntry) -> LoadedVersion:
        """The version, loaded now if it was not."""
        found = self._loaded.get(entry.id)
        return found if found is not None else await asyncio.shield(self._begin(entry))

    def preload(self, entry: VersionEntry) -> None:
        """Loads the version beforehand, after all that are waited for, if there is room."""
        if entry.id not in self._loaded and entry.id not in self._loading:
            self._preload[entry.id] = entry
            if self._preloading is None:
                self._preloading = asyncio.ensure_future(self._preload_all())

    def warm(self, entry: VersionEntry) -> None:
        """Loads a version that is asked for while another answers in its place: others leave for it."""
        with contextlib.suppress(Unavailable):  # tried a moment ago
            self._begin(entry)

    def unload(self, version_id: str) -> None:
        """Lets go of a version; work that is queued for it is still done."""
        gone = self._loaded.pop(version_id, None)
        if gone is None:
            return
        gone.leave()
        self.held_bytes -= gone.memory_bytes
        self._let_go_bytes += gone.memory_bytes
        if self._let_go_bytes >= TRIM_BYTES:
            self._let_go_bytes = 0
            self._loader.submit(heap.give_back)

    def keep_only(self, entries: Iterable[VersionEntry], *, until_loaded: Mapping[str, str]) -> None:
        """Lets go what is deployed no longer, and preloads what has come to be deployed.

        `until_loaded` names, for a version that is new under a deployment, the one that answers until it is loaded.
        """
        before = self._wanted
        self._wanted, self._until_loaded = {entry.id: entry for entry in entries}, until_loaded
        self._let_go_unwanted()
        for known in (self._preload, self._weights):
            for version_id in known.keys() - self._wanted.keys():
                del known[version_id]
        for version_id, entry in self._wanted.items():
            if version_id not in before:
                self.preload(entry)

    def _let_go_unwanted(self, but: str = "") -> None:
        """All that is deployed no longer goes, but one that somebody has just waited for."""
        if unwanted := self._loaded.keys() - self._wanted.keys() - {but}:
            for version_id in unwanted - {old for new, old in self._until_loaded.items() if new not in self._loaded}:
                self.unload(version_id)

    def close(self) -> None:
        if self._preloading is not None:
            self._preloading.cancel()
        self._loader.shutdown(cancel_futures=True)
        for version in self._loaded.values():
            version.leave()

    async def _preload_all(self) -> None:
        try:
            while self._preload:
                version_id, entry = next(iter(self._preload.items()))
                del self._preload[version_id]
                weight = self._weights.get(version_id, loading.size_of(entry))
                if version_id in self._loaded or self.held_bytes + weight > self.budget_bytes:
                    continue
                try:
                    await asyncio.shield(self._begin(entry, beforehand=True))
                except NoRoom:
                    self._preload.clear()  # else all that are deployed would be loaded, to find that they do not fit
                except Unavailable:
                    pass  # logged already
        finally:
            self._preloading = None

    def _begin(self, entry: VersionEntry, *, beforehand: bool = False) -> "asyncio.Future[LoadedVersion]":
        failed_at, why = self._failed.get(entry.id, (0.0, ""))
        if time.monotonic() - failed_at < RETRY_SECONDS and why:
            raise Unavailable(why, retry_after=RETRY_SECONDS)
        found = self._loading.get(entry.id)
        if not beforehand:
            self._beforehand.discard(entry.id)
        elif found is None:
            self._beforehand.add(entry.id)
        if found is None:
            found = self._loading[entry.id] = asyncio.ensure_future(self._load(entry))
            found.add_done_callback(_exception_seen)
        return found

    async def _load(self, entry: VersionEntry) -> LoadedVersion:
        started = time.monotonic()
        try:
            self._make_room(loading.size_of(entry), for_whom=entry)
            made = await asyncio.get_running_loop().run_in_executor(
                self._loader, lambda: loading.load(entry, threads=self._threads)
            )
            self._weights[entry.id] = made.memory_bytes
            self._make_room(made.memory_bytes, for_whom=entry)
        except NoRoom:
            raise
        except Unavailable as full:
            # Else each request for it would load it anew, to find again that it does not fit.
            self._failed[entry.id] = (time.monotonic(), full.detail)
            raise
        except Exception as error:
            logger.exception("version %s of %s could not be loaded", entry.label, entry.tenant_id)
            why = f"Version {entry.label} could not be loaded on this host."
            self._failed[entry.id] = (time.monotonic(), why)
            self.counters.failures += 1
            raise Unavailable(why, retry_after=RETRY_SECONDS) from error
        finally:
            del self._loading[entry.id]
            self._beforehand.discard(entry.id)
        queue = Queue(
            best_rows=made.measured.best_rows, limit=self._queue_limit, host=self._host, tenant_id=entry.tenant_id,
            usual_bucket=made.usual_bucket, most_huge=max(1, self._threads - 1),
            short_rows=made.measured.short_rows,
            batches=() if made.measured.inline or made.pipeline is not None else made.measured.batches,
        )  # fmt: skip
        found = self._loaded[entry.id] = LoadedVersion(entry, made, queue)
        self.held_bytes += found.memory_bytes
        self._failed.pop(entry.id, None)
        self._let_go_unwanted(but=entry.id)
        self.counters.loads += 1
        took = time.monotonic() - started
        self.counters.load_us[bucket(int(took * 1e6))] += 1
        logger.info(
            "%s of %s is loaded in %.3f s, %.1f MB: %s",
            entry.label, entry.tenant_id, took, made.memory_bytes / 1e6, made.measured,
        )  # fmt: skip
        return found

    def _make_room(self, needed: int, *, for_whom: VersionEntry) -> None:
        """Lets go the versions that were used longest ago, until so many bytes fit; those in use stay."""
        leaving, held = [], self.held_bytes
        for version in self._loaded.values():
            if held + needed <= self.budget_bytes:
                break
            if for_whom.id in self._beforehand:
                raise NoRoom
            if not version.queue.in_use:
                leaving.append(version.entry.id)
                held -= version.memory_bytes
        if held + needed > self.budget_bytes:
            raise Unavailable(
                f"Version {for_whom.label} needs {needed:,} bytes of memory; of the {self.budget_bytes:,} of this "
                f"server {held:,} are in use.",
                retry_after=RETRY_SECONDS,
            )
        for version_id in leaving:
            self.counters.evictions += 1
            self.unload(version_id)


def _exception_seen(done: "asyncio.Future[Any]") -> None:
    if not done.cancelled():
        done.exception()
