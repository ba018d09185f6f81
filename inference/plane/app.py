"""The prediction plane: its parts, and where an exchange begins.

The way of a prediction is in `prediction.py`, its end in `settling.py`; `http.py` and `asgi.py` bring requests.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
from django.conf import settings

from inference import access_log
from inference.neighbours import Neighbours
from inference.plane import gate, metrics, routes, tracing, watch
from inference.plane.access import Accesses
from inference.plane.cache import Cache
from inference.plane.directory import Directory
from inference.plane.exchange import Answer, Deliver, Exchange, Partial, Request, Waiting
from inference.plane.feed import Feed
from inference.plane.gate import Limits
from inference.plane.history import History
from inference.plane.leases import Leases
from inference.plane.prediction import Predictions
from inference.plane.settling import Observer, Settling
from inference.plane.shadow import Shadows
from inference.plane.shipping import Shipper
from inference.plane.spool import SEGMENT_SECONDS, Spool
from inference.plane.statistics import Statistics
from inference.plane.streams import Streams
from inference.plane.traffic import Traffic
from inference.plane.versions import Versions
from inference.plane.watch import Watch
from inference.protocols.base import Asked, Found
from inference.queueing import HostRows
from inference.scheduling import EngineThreads, Lane
from inference.work import Work
from tenants.errors import DeadlineExceeded, Refusal

# So long a call that is no prediction may wait for what is cold.
VIEW_SECONDS = 60.0


class Plane:
    """The application, and the parts that it stands on, from `start` to `stop`."""

    def __init__(self) -> None:
        self.limits = Limits(
            body_bytes=settings.INFERENCE_MAX_BODY_BYTES,
            rows=settings.INFERENCE_MAX_QUEUED_ROWS,
            deadline_seconds=settings.INFERENCE_DEADLINE_SECONDS,
        )
        self.directory = Directory()
        self.statistics = Statistics()
        self.ready = False
        self.leaving = False
        self._watch = Watch(self.statistics, self.directory)
        self._traffic = Traffic(processes=settings.INFERENCE_PROCESSES)
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Loads the directory, then opens the spool and the engine threads."""
        self._log, self._traces = access_log.of_process(), tracing.from_environment()
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="plane")
        processes = settings.INFERENCE_PROCESSES
        threads = settings.INFERENCE_THREADS or max(1, (os.cpu_count() or 1) // processes)
        # Twice the largest request, else one that waits would leave no room for other tenants.
        self.host_rows = HostRows(max(settings.INFERENCE_MAX_QUEUED_ROWS_HOST // processes, 2 * self.limits.rows))
        self.versions = Versions(
            queue_limit=settings.INFERENCE_MAX_QUEUED_ROWS,
            host=self.host_rows,
            budget_bytes=(settings.INFERENCE_MEMORY_BYTES or _half_of_memory()) // processes,
            threads=threads,
        )
        self.engines = EngineThreads(threads=threads, finish=self._finished, neighbours=_neighbours())
        self.shadows = Shadows(self.versions, self.host_rows, self.engines.announce)
        self.feed = Feed(self.directory, loop=self._loop, changed=self._directory_changed, recalled=self._recalled)
        await self.feed.start()
        await self._open_spool(Path(settings.SPOOL_DIR))
        self.leases = Leases(producer=self.spool.producer, in_thread=self._in_thread)
        self.settling = Settling(
            self.spool,
            self.leases,
            self.statistics,
            Cache(settings.INFERENCE_CACHE_BYTES // processes),
            self.shadows,
            spawn=self._spawn,
            observers=tuple(self._observers()),
        )
        self.streams = Streams(self._loop, self.settling)
        self.predictions = Predictions(
            self._loop,
            self.limits,
            self.directory,
            self.feed,
            self.versions,
            self.leases,
            self._traffic,
            self.statistics,
            self.engines,
            self.settling,
            self.streams,
            in_thread=self._in_thread,
        )
        self._history = History(self.statistics, source=self.spool.producer, now=time.time())
        self._history.start()
        self._rotating = self._loop.create_task(self._rotate())
        self.ready = True

    def _observers(self) -> Iterator[Observer]:
        """Who hears of exchanges: usually nobody."""
        if self._log is not None:
            yield Accesses(self._log)
        if self._traces is not None:
            yield self._traces

    async def _open_spool(self, root: Path) -> None:
        self.spool = Spool(
            root,
            durable=settings.METERING_DURABILITY == "disk",
            in_flight_seconds=self.limits.deadline_seconds,
            closed=lambda segment: self._shipper.put(segment),
            idle=lambda idle: self._shipper.put(idle),
        )
        self._shipper = Shipper(root, producer=self.spool.producer)
        await asyncio.to_thread(self._shipper.open)
        self._shipper.start()
        self._metrics = metrics.Snapshot(metrics.folder(), producer=self.spool.producer)

    async def stop(self) -> None:
        """Ends in the order that loses nothing: engines, spool, shipping."""
        self.ready = False
        self._rotating.cancel()
        await asyncio.to_thread(self.streams.stop)
        await asyncio.to_thread(self.engines.stop)
        await self.leases.stop()
        self.spool.rotate_if_possible()
        self._history.look(time.time(), last=True)
        await asyncio.to_thread(self._shipper.stop)
        await asyncio.to_thread(self._history.stop)
        self.spool.release()
        await self.feed.stop()
        self.versions.close()
        self._threads.shutdown()
        if self._traces is not None:
            await asyncio.to_thread(self._traces.close)
        self._metrics.remove()

    def healthy(self) -> bool:
        """Whether requests should come here: started, not about to stop, in sight of the database, able to record."""
        sound = self.ready and not self.leaving and not self.spool.failed
        return sound and self.directory.is_fresh(time.monotonic())

    def begin(self, request: Request, deliver: Deliver, partial: Partial | None = None) -> Exchange:
        """Sets a whole request on its way; its answer is delivered on the loop, perhaps before this returns."""
        exchange = Exchange(request, deliver, partial)
        try:
            self._walk(exchange)
        except Waiting as waiting:
            exchange.task = self._spawn(self._walk_later(exchange, waiting))
        except Exception as error:
            self.settling.refuse(exchange, error)
        return exchange

    def refuse(self, request: Request, deliver: Deliver, refusal: Refusal) -> None:
        """Answers a request that is refused before it has come whole."""
        self.settling.refuse(Exchange(request, deliver), refusal)

    def abandon(self, exchange: Exchange) -> None:
        """The caller has left: its place is free and it costs nothing, unless the engine is at it already."""
        exchange.deliver = _to_nobody
        exchange.left = True
        if exchange.task is not None:
            exchange.task.cancel()
        if exchange.done:
            return
        self.statistics.totals.abandoned += 1
        if exchange.timer is not None:
            exchange.timer.cancel()
        work = exchange.work
        if work is None or not work.taken:
            self.settling.abandon(exchange)

    def _walk(self, exchange: Exchange) -> None:
        """One walk from the beginning; what is cold on the way raises Waiting."""
        request = exchange.request
        found = exchange.found = routes.find(request.head.method, request.head.path)
        if found.route.view is None:
            self.predictions.walk(exchange, found)
        else:
            self.settling.answer(exchange, found.route.view(self._asked(exchange, found)))

    async def _walk_later(self, exchange: Exchange, waiting: Waiting) -> None:
        """Waits for what is cold, and walks again; whatever else turns out to be cold is waited for, too."""
        try:
            until = exchange.deadline or exchange.started + VIEW_SECONDS
            async with asyncio.timeout(max(0.0, until - time.monotonic())):
                while True:
                    await waiting.awaited
                    try:
                        return self._walk(exchange)
                    except Waiting as another:
                        waiting = another
        except TimeoutError:
            self.settling.refuse(exchange, DeadlineExceeded("The deadline passed before the answer was there."))
        except Exception as error:
            self.settling.refuse(exchange, error)

    def _asked(self, exchange: Exchange, found: Found) -> Asked:
        """What a view may look at: of a deployment and of its caller, unless it is public."""
        now = time.monotonic()
        if found.name:
            self.predictions.find(exchange, found, now)
        elif not found.route.public:
            self.directory.check_fresh(now)
            exchange.key = gate.identify(exchange.request.head, exchange.request.client, self.directory)
        return Asked(
            exchange.request, found.match, exchange.key, exchange.deployment, self.versions, self.directory,
            self.statistics, ready=self.healthy(), limits_rows=self.limits.rows, shadows=self.shadows,
        )  # fmt: skip

    def _finished(self, lane: Lane, batch: list[Work]) -> None:
        """Called by an engine thread: one hop back for the whole batch."""
        del lane
        self._loop.call_soon_threadsafe(self.settling.settle, batch)

    async def _rotate(self) -> None:
        while True:
            await asyncio.sleep(SEGMENT_SECONDS)
            self.spool.tick()
            self._history.look(time.time())
            self._in_thread(self._metrics.write, metrics.reading(self))
            for verdict in self._watch.due(time.monotonic()):
                self._in_thread(watch.roll_back, verdict)

    def _directory_changed(self) -> None:
        self.versions.keep_only(self.directory.versions().values(), until_loaded=self.directory.until_loaded())
        served = self.directory.served()
        self.statistics.keep_only(served)
        self.shadows.keep_only(served)
        self._traffic.keep_only({(tenant_id, name) for tenant_id, name, _ in served})

    def _recalled(self, payload: str) -> None:
        if self.ready:
            self.leases.recall(payload)

    def _in_thread(self, call: Any, *arguments: Any) -> "asyncio.Future[Any]":
        return self._loop.run_in_executor(self._threads, call, *arguments)

    def _spawn(self, step: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        self._tasks.add(task := self._loop.create_task(step))
        task.add_done_callback(self._tasks.discard)
        return task


def _neighbours() -> Neighbours | None:
    """What this process knows of the other server processes, if it was started as one of several."""
    if settings.INFERENCE_NEIGHBOURS < 0:
        return None
    return Neighbours(
        settings.INFERENCE_NEIGHBOURS, process=settings.INFERENCE_PROCESS, processes=settings.INFERENCE_PROCESSES
    )


def _half_of_memory() -> int:
    """Half of the machine's memory, or of what its container may have."""
    total = int(psutil.virtual_memory().total)
    with contextlib.suppress(OSError, ValueError):  # no limit, or no such thing here
        total = min(total, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return total // 2


def _to_nobody(answer: Answer) -> None:
    del answer
