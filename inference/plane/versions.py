"""Loaded versions: each is checked, loaded and measured once, however many requests wait for it."""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from inference import batching
from inference.batching import HostRows, Joining, Queue, Work
from inference.engines.base import Engine, Tensor, Tensors, blank
from inference.engines.litert import LiteRT
from inference.engines.onnx import Onnx
from inference.plane.directory import VersionEntry
from modelhub import artifacts, recipes
from modelhub.recipes.base import Served
from tenants.errors import Unavailable

BATCH_SIZES = (1, 2, 4, 8, 16, 32)
MEASURE_SECONDS = 0.03
# A larger batch must be worth at least this much more throughput, because the requests in it wait for one another.
WORTH = 1.03
# What a batch costs beside its run: handing it to a thread, and its answers back.
HOP_SECONDS = 150e-6
# A batch cheaper than this runs on the event loop: handing it to a thread and back would cost more.
INLINE_SECONDS = 100e-6
RETRY_SECONDS = 5.0
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Measured:
    """What the engine does on this host, one thread: seconds by batch size, and what follows from it."""

    seconds: dict[int, float]
    best_rows: int

    def __str__(self) -> str:
        times = ", ".join(f"{rows}: {seconds * 1e3:.3f} ms" for rows, seconds in self.seconds.items())
        return f"best batch {self.best_rows} on one thread ({times})"

    @property
    def inline(self) -> bool:
        """Whether its batches are cheaper than a thread hop."""
        return self.seconds[self.best_rows] < INLINE_SECONDS


class LoadedVersion:
    """A version ready to answer: its engine, its recipe's serving side, and its queue."""

    def __init__(
        self, entry: VersionEntry, engine: Engine, served: Served | None, measured: Measured, queue: Queue
    ) -> None:
        self.entry = entry
        self.engine = engine
        self.served = served
        self.measured = measured
        self.queue = queue
        self.flushing = False
        self.batched: bool = entry.manifest["serving"].get("batched", True)
        self._joining = Joining(
            best_rows=measured.best_rows,
            shapes=any(size < 0 for spec in entry.signature.inputs for size in spec.shape[1:]),
            batched=self.batched,
        )
        self._of_thread = threading.local()

    def run(self, batch: list[Work]) -> None:
        """Runs one batch, in the thread that calls."""
        prepare = self.prepare if self.served is not None else None
        batching.run(batch, engine=self.engine, prepare=prepare, joining=self._joining)

    def prepare(self, works: list[Work]) -> Tensors:
        """The raw rows of these works as the model's one input tensor, all in one buffer of the thread."""
        assert self.served is not None
        spec = self.entry.signature.inputs[0]
        rows = sum(work.rows for work in works)
        buffer: Tensor | None = getattr(self._of_thread, "buffer", None)
        if buffer is None or len(buffer) < rows:
            buffer = blank(spec, max(rows, self.measured.best_rows))
            if rows <= self.measured.best_rows:
                self._of_thread.buffer = buffer
        return {spec.name: batching.fill(works, buffer, self.served.prepare)}


class Versions:
    """The versions in memory. Loading happens in threads of its own and never holds up those that are loaded."""

    def __init__(self, *, queue_limit: int, host: HostRows) -> None:
        self._queue_limit = queue_limit
        self._host = host
        self._loaded: dict[str, LoadedVersion] = {}
        self._loading: dict[str, asyncio.Future[LoadedVersion]] = {}
        self._failed: dict[str, tuple[float, str]] = {}
        self._threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="load")

    def loaded(self, version_id: str) -> LoadedVersion | None:
        return self._loaded.get(version_id)

    def states(self) -> dict[str, str]:
        """Every version that is loaded or being loaded, with its state in TensorFlow Serving's words."""
        return dict.fromkeys(self._loading, "LOADING") | dict.fromkeys(self._loaded, "AVAILABLE")

    async def load(self, entry: VersionEntry) -> LoadedVersion:
        """The version, loaded now if it was not."""
        found = self._loaded.get(entry.id)
        return found if found is not None else await asyncio.shield(self._begin(entry))

    def preload(self, entry: VersionEntry) -> None:
        """Begins to load the version, if it is not in memory and has not failed just now."""
        if entry.id not in self._loaded and entry.id not in self._loading:
            with contextlib.suppress(Unavailable):
                self._begin(entry).add_done_callback(_exception_seen)

    def unload(self, version_id: str) -> None:
        """Lets go of a version; work that is queued for it is still done."""
        self._loaded.pop(version_id, None)

    def keep_only(self, entries: Iterable[VersionEntry]) -> None:
        """Loads what is deployed and not loaded, and lets go what is deployed no longer."""
        wanted = {entry.id: entry for entry in entries}
        for version_id in self._loaded.keys() - wanted.keys():
            del self._loaded[version_id]
        for entry in wanted.values():
            self.preload(entry)

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)

    def _begin(self, entry: VersionEntry) -> "asyncio.Future[LoadedVersion]":
        failed_at, why = self._failed.get(entry.id, (0.0, ""))
        if time.monotonic() - failed_at < RETRY_SECONDS and why:
            raise Unavailable(why, retry_after=RETRY_SECONDS)
        loading = self._loading.get(entry.id)
        if loading is None:
            loading = self._loading[entry.id] = asyncio.ensure_future(self._load(entry))
        return loading

    async def _load(self, entry: VersionEntry) -> LoadedVersion:
        loop = asyncio.get_running_loop()
        try:
            engine, served, measured = await loop.run_in_executor(self._threads, _make, entry)
        except Exception as error:
            logger.exception("version %s of %s could not be loaded", entry.label, entry.tenant_id)
            why = f"Version {entry.label} could not be loaded on this host."
            self._failed[entry.id] = (time.monotonic(), why)
            raise Unavailable(why, retry_after=RETRY_SECONDS) from error
        finally:
            del self._loading[entry.id]
        queue = Queue(best_rows=measured.best_rows, limit=self._queue_limit, host=self._host)
        loaded = self._loaded[entry.id] = LoadedVersion(entry, engine, served, measured, queue)
        self._failed.pop(entry.id, None)
        logger.info("%s of %s is loaded: %s", entry.label, entry.tenant_id, measured)
        return loaded


def _exception_seen(done: "asyncio.Future[Any]") -> None:
    if not done.cancelled():
        done.exception()


def _make(entry: VersionEntry) -> tuple[Engine, Served | None, Measured]:
    """Checks the artifact against its sealed manifest, loads it and measures it."""
    path = artifacts.checked_path(
        tenant_id=entry.tenant_id,
        manifest=entry.manifest,
        manifest_seal=entry.manifest_seal,
        file=entry.manifest["serving"]["file"],
    )
    engine = ENGINES[entry.manifest["serving"]["engine"]](path=path, signature=entry.signature)
    served = recipes.get(entry.recipe).served(entry.manifest) if entry.recipe else None
    return engine, served, measure(engine, entry)


ENGINES: dict[str, Callable[..., Engine]] = {LiteRT.name: LiteRT, Onnx.name: Onnx}


def measure(engine: Engine, entry: VersionEntry) -> Measured:
    """Times the engine at each batch size, on one thread, and chooses the smallest that is worth it."""
    seconds: dict[int, float] = {}
    best = BATCH_SIZES[0]
    batched = entry.manifest["serving"].get("batched", True)
    for rows in BATCH_SIZES if batched else BATCH_SIZES[:1]:
        inputs = {spec.name: blank(spec, rows if batched else None) for spec in entry.signature.inputs}
        seconds[rows] = _fastest(lambda inputs=inputs: engine.run(inputs))  # type: ignore[misc]
        if rows / (seconds[rows] + HOP_SECONDS) > WORTH * best / (seconds[best] + HOP_SECONDS):
            best = rows
        elif rows > best * 2:
            break
    return Measured(seconds=seconds, best_rows=best)


def _fastest(step: Callable[[], object]) -> float:
    """Seconds of the fastest of several runs, the first left out."""
    step()
    fastest = float("inf")
    until = time.perf_counter() + MEASURE_SECONDS
    while True:
        started = time.perf_counter()
        step()
        ended = time.perf_counter()
        fastest = min(fastest, ended - started)
        if ended > until:
            return fastest
