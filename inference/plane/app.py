"""The prediction plane: its parts, and the way of a request through them.

A warm prediction makes no query, waits for nothing, and reads here from top to bottom:
identify → find the deployment → admit → decode → queue → run in a batch → encode → record → answer.
"""

import asyncio
import logging
import os
import time
from collections.abc import Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
from django.conf import settings

from inference.batching import HostRows, Work
from inference.plane import cache, gate, metrics, routes, routing, traffic, watch
from inference.plane.directory import DeploymentEntry, Directory, KeyEntry, UnknownDeployment, VersionEntry
from inference.plane.exchange import Answer, Deliver, Exchange, HeaderList, Request, Waiting
from inference.plane.feed import Feed
from inference.plane.gate import Disconnected, Headers, Limits, Receive, Scope, Send
from inference.plane.leases import Leases
from inference.plane.routing import Target
from inference.plane.shadow import Shadows
from inference.plane.shipping import Shipper
from inference.plane.spool import SEGMENT_SECONDS, Spool, frame
from inference.plane.statistics import Statistics, bucket
from inference.plane.traffic import Traffic
from inference.plane.versions import LoadedVersion, Versions
from inference.plane.watch import Watch
from inference.protocols.base import Asked, Call, Found, PredictRequest, WireProtocol, decompressed
from inference.scheduling import EngineThreads, Lane
from tenants.api import problems
from tenants.errors import DeadlineExceeded, Refusal, TooLarge

# A body above this is parsed in a thread, so that it does not hold up the loop; one that is not JSON costs nothing.
INLINE_BODY_BYTES = 32 * 1024
# Rows that a small model may run on the loop at once.
INLINE_SECONDS = 300e-6
# A lone request as cheap as this runs on the loop, too.
ALONE_SECONDS = 2e-3
# So long the version before a switch goes on at most, while the new one is loaded.
WARM_UP_SECONDS = 30.0
logger = logging.getLogger(__name__)


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
        self.watch = Watch(self.statistics, self.directory)
        self.cache = cache.Cache(settings.INFERENCE_CACHE_BYTES // settings.INFERENCE_PROCESSES)
        self.traffic = Traffic(processes=settings.INFERENCE_PROCESSES)
        self.ready = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Loads the directory, then opens the spool and the engine threads."""
        self._loop = asyncio.get_running_loop()
        processes = settings.INFERENCE_PROCESSES
        self.host_rows = host = HostRows(settings.INFERENCE_MAX_QUEUED_ROWS_HOST // processes)
        threads = settings.INFERENCE_THREADS or max(1, (os.cpu_count() or 1) // processes)
        self.versions = Versions(
            queue_limit=settings.INFERENCE_MAX_QUEUED_ROWS,
            host=host,
            budget_bytes=(settings.INFERENCE_MEMORY_BYTES or _half_of_memory()) // processes,
            threads=threads,
        )
        self._threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="plane")
        self.feed = Feed(self.directory, loop=self._loop, changed=self._directory_changed)
        await self.feed.start()
        root = Path(settings.SPOOL_DIR)
        self.spool = Spool(
            root,
            durable=settings.METERING_DURABILITY == "disk",
            in_flight_seconds=self.limits.deadline_seconds,
            closed=lambda segment: self.shipper.put(segment),
        )
        self.shipper = Shipper(root, producer=self.spool.producer)
        self.shipper.start()
        self.leases = Leases(producer=self.spool.producer, in_thread=self._in_thread)
        self.engines = EngineThreads(threads=threads, finish=self._finished)
        self.shadows = Shadows(self.versions, host, self.engines.announce)
        self._metrics = metrics.Snapshot(root.parent / "metrics", producer=self.spool.producer)
        self._rotating = self._loop.create_task(self._rotate())
        self.ready = True

    async def stop(self) -> None:
        """Ends in the order that loses nothing: engines, spool, shipping."""
        self.ready = False
        self._rotating.cancel()
        await asyncio.to_thread(self.engines.stop)
        self.spool.rotate_if_possible()
        await asyncio.to_thread(self.shipper.stop)
        self.spool.release()
        self._metrics.remove()
        await self.feed.stop()
        self.versions.close()
        self._threads.shutdown()

    def healthy(self) -> bool:
        """Whether it answers: started, not stopping, and in sight of the database."""
        return self.ready and self.directory.is_fresh(time.monotonic())

    def begin(self, request: Request, deliver: Deliver) -> Exchange:
        """Sets a whole request on its way; its answer is delivered on the loop, perhaps before this returns."""
        exchange = Exchange(request, deliver, self._finish)
        self._go(exchange)
        return exchange

    def abandon(self, exchange: Exchange) -> None:
        """The caller has left: its place is free and it costs nothing, unless the engine is at it already."""
        exchange.deliver = _to_nobody
        if exchange.task is not None:
            exchange.task.cancel()
        work = exchange.work
        if not exchange.done and (work is None or not work.taken):
            self._drop(exchange)

    def _go(self, exchange: Exchange) -> None:
        try:
            self._walk(exchange)
        except Waiting as waiting:
            exchange.task = self._spawn(self._go_later(exchange, waiting))
        except Exception as error:
            self._refuse(exchange, error)

    async def _go_later(self, exchange: Exchange, waiting: Waiting) -> None:
        """Waits for what is cold, and walks again; whatever else turns out to be cold is waited for, too."""
        try:
            async with asyncio.timeout(max(0.0, (exchange.deadline or _never()) - time.monotonic())):
                while True:
                    await waiting.awaited
                    try:
                        return self._walk(exchange)
                    except Waiting as another:
                        waiting = another
        except TimeoutError:
            self._refuse(exchange, DeadlineExceeded("The deadline passed before the answer was there."))
        except Exception as error:
            self._refuse(exchange, error)

    def _walk(self, exchange: Exchange) -> None:
        """identify → find the deployment → admit → decode → queue. What is cold on the way raises Waiting."""
        request = exchange.request
        found = exchange.found = routes.find(request.method, request.path)
        if found.route.view is not None:
            self._view(exchange, found)
            return
        now = time.monotonic()
        if not exchange.deadline:
            exchange.deadline = gate.deadline(request.headers, self.limits, now=now)
        key, deployment = self._find(exchange, found, now)
        target = exchange.target or self._choose(exchange, found, key, deployment)
        entry = target.version
        exchange.tally = self.statistics.of((entry.tenant_id, deployment.name, entry.label))
        version = self.versions.loaded(entry.id, now) or self._standing_in(found, deployment, entry, now)
        if version is None:
            raise Waiting(self.versions.load(entry))
        if version.entry is not entry:
            exchange.tally = self.statistics.of((entry.tenant_id, deployment.name, version.entry.label))
        exchange.version = version
        call = exchange.call or self._parse(exchange, found, version)
        spent = self.leases.spend(key.tenant, call.rows)
        if spent is None:
            raise Waiting(self.leases.fill(key.tenant, call.rows))
        exchange.spent = spent
        self._queue(exchange, version, call)

    def _find(self, exchange: Exchange, found: Found, now: float) -> tuple[KeyEntry, DeploymentEntry]:
        """Who asks, and for what. A name that is not known may have been deployed this moment: asked for once more."""
        self.directory.check_fresh(now)
        key = exchange.key = gate.identify(exchange.request.headers, self.directory)
        deployment = key.tenant.deployments.get(found.name)
        if deployment is None:
            if exchange.caught_up:
                raise UnknownDeployment(found.name)
            exchange.caught_up = True
            raise Waiting(self.feed.catch_up())
        exchange.deployment = deployment
        return key, deployment

    def _choose(self, exchange: Exchange, found: Found, key: KeyEntry, deployment: DeploymentEntry) -> Target:
        """Draws the target of a request, once: when what is cold is there, it is the same."""
        match = found.match
        exchange.target = target = routing.choose(
            deployment, key=key, headers=exchange.request.headers, version=match.get("version", ""),
            label=match.get("label", ""),
        )  # fmt: skip
        if deployment.limits.any:
            self.traffic.admit(exchange, deployment)
        return target

    def _standing_in(
        self, found: Found, deployment: DeploymentEntry, entry: VersionEntry, now: float
    ) -> LoadedVersion | None:
        """The version that answered before, while the one that is to answer now warms up; none if it was named."""
        if found.match.get("version") or found.match.get("label"):
            return None
        if entry is deployment.version:
            before, since = deployment.previous, deployment.since
        elif any(entry is version for version, _ in deployment.canaries):
            before, since = deployment.version, deployment.split_at
        else:
            return None
        if before is None or now - since > WARM_UP_SECONDS:
            return None
        standing_in = self.versions.loaded(before.id, now)
        if standing_in is not None:
            self.versions.preload(entry)
        return standing_in

    def _view(self, exchange: Exchange, found: Found) -> None:
        """Answers what is no prediction."""
        key: KeyEntry | None = None
        deployment: DeploymentEntry | None = None
        if not found.route.public:
            now = time.monotonic()
            if found.name:
                key, deployment = self._find(exchange, found, now)
            else:
                self.directory.check_fresh(now)
                key = gate.identify(exchange.request.headers, self.directory)
        assert found.route.view is not None
        asked = Asked(
            exchange.request, found.match, key, deployment, self.versions, self.directory, self.statistics,
            ready=self.healthy(), limits_rows=self.limits.rows,
            shadows=self.shadows,
        )  # fmt: skip
        self._deliver(exchange, found.route.view(asked))

    def _parse(self, exchange: Exchange, found: Found, version: LoadedVersion) -> Call:
        """The call that the request's body makes; a large body is parsed in a thread."""
        request = exchange.request
        headers, body = request.headers, request.body
        encoding = headers.get(b"content-encoding", b"").decode("latin-1").lower()
        content_type = headers.get(b"content-type", b"").partition(b";")[0].strip().lower().decode("latin-1")

        def parse() -> Call:
            plain = decompressed(body, encoding, self.limits.body_bytes) if encoding else body
            asked = PredictRequest(exchange.id, content_type, plain, found.name, found.route.verb, headers)
            call = exchange.call = found.route.protocol.parse(asked, version)
            return call

        cheap = content_type.startswith("image/") or b"inference-header-content-length" in headers
        if encoding or (len(body) > INLINE_BODY_BYTES and not cheap):
            raise Waiting(self._in_thread(parse))
        return parse()

    def _queue(self, exchange: Exchange, version: LoadedVersion, call: Call) -> None:
        """Queues the work, for the loop itself if it is cheap, else for an engine's thread."""
        now = time.monotonic()
        assert exchange.deployment is not None
        if (own := exchange.deployment.limits).any:
            traffic.check_rows(own, call.rows, queued=version.queue.rows)
        if call.rows > self.limits.rows:
            raise TooLarge(f"The request has {call.rows:,} rows; the limit is {self.limits.rows:,}.")
        if call.timeout is not None:
            exchange.deadline = min(exchange.deadline, now + call.timeout)
        render = call.render
        if self._keeps_outputs(exchange):
            if self._answer_from_cache(exchange, version, call, now):
                return
            render = exchange.keeping(render)
        work = exchange.work = Work(
            call.rows, exchange.deadline, render, inputs=call.inputs, raw=call.raw, receipt=exchange,
            priority=call.priority, queued_at=now,
        )  # fmt: skip
        version.queue.put(work)
        measured = version.measured
        if measured.inline and work.rows * measured.seconds[1] < INLINE_SECONDS:
            self._flush_soon(version)
            return
        exchange.timer = self._loop.call_later(exchange.deadline - now, self._late, exchange)
        # Files are never read on the loop: what one costs is not known before.
        if call.rows == 1 and not call.raw and measured.alone_seconds < ALONE_SECONDS and self.engines.idle:
            self._flush_soon(version)
        else:
            self.engines.announce(version)

    def _keeps_outputs(self, exchange: Exchange) -> bool:
        """Whether what the engine puts out is looked at again: by the cache, or by a shadow."""
        assert exchange.deployment is not None
        assert exchange.target is not None
        return bool(exchange.deployment.cache_seconds or exchange.target.shadow)

    def _answer_from_cache(self, exchange: Exchange, version: LoadedVersion, call: Call, now: float) -> bool:
        """Answers with outputs that are kept, if there are any; recorded as any answer, with no compute time."""
        deployment, found, request = exchange.deployment, exchange.found, exchange.request
        assert deployment is not None
        assert found is not None
        if not deployment.cache_seconds:
            return False
        reader = f"{type(found.route.protocol).__name__}.{found.route.verb}"
        exchange.cache_key = cache.key_of(
            version.tenant_id, version.entry.id, reader=reader, headers=request.headers, body=request.body
        )
        outputs = self.cache.get(exchange.cache_key, seconds=deployment.cache_seconds, now=now)
        if outputs is None:
            return False
        work = exchange.work = Work(
            call.rows, exchange.deadline, call.render, receipt=exchange, queued_at=now, taken_at=now, taken=True
        )
        work.answer = call.render(outputs)
        exchange.cache_key = None
        if exchange.tally is not None:
            exchange.tally.cache_hits += 1
        self._settle([work], ran=False)
        return True

    def _look_again(self, exchange: Exchange, work: Work, now: float) -> None:
        """After the answer has gone: keeps what the engine put out, and asks the shadow."""
        outputs, deployment, target = exchange.outputs, exchange.deployment, exchange.target
        if outputs is None or deployment is None or target is None:
            return
        if exchange.cache_key is not None:
            self.cache.put(exchange.cache_key, outputs, now=now)
        if target.shadow is not None:
            self.shadows.follow(work, outputs, target.shadow, deployment=deployment.name, now=now)

    def _flush_soon(self, version: LoadedVersion) -> None:
        """Everything that this turn of the loop brings becomes one batch."""
        if not version.flushing:
            version.flushing = True
            self._loop.call_soon(self._flush, version)

    def _flush(self, version: LoadedVersion) -> None:
        """Runs what is queued for a small model on the loop, and a lone request, which two thread hops would delay."""
        version.flushing = False
        if not version.measured.inline and (version.queue.rows > 1 or not self.engines.idle):
            self.engines.announce(version)
            return
        while batch := version.queue.take(time.monotonic()):
            version.run(batch, alone=True)
            self._settle(batch)

    def _finished(self, lane: Lane, batch: list[Work]) -> None:
        """Called by an engine thread: one hop back for the whole batch."""
        del lane
        self._loop.call_soon_threadsafe(self._settle, batch)

    def _settle(self, batch: list[Work], *, ran: bool = True) -> None:
        """Records every answer of the batch with one write, and only then lets them go."""
        answered = [work for work in batch if work.error is None and not work.abandoned]
        first = next((work.receipt for work in answered if isinstance(work.receipt, Exchange)), None)
        if ran and first is not None and first.tally is not None:
            first.tally.batches += 1
            totals, rows = self.statistics.totals, sum([work.rows for work in answered])
            totals.rows += rows
            totals.batch_rows[bucket(rows)] += 1
            totals.compute_us[bucket(sum([work.compute_us for work in answered]))] += 1
        try:
            payloads = [work.receipt.payload(work) for work in answered if work.receipt]
            if records := b"".join([frame(payload) for payload in payloads if payload is not None]):
                self.spool.append(records)
        except Refusal as refusal:
            _fail(answered, refusal)
        except Exception as error:
            logger.exception("the usage of %d requests could not be recorded", len(answered))
            _fail(answered, error)
        if self.spool.durable and answered:
            self._spawn(self._settle_synced(batch))
        else:
            _let_go(batch)

    async def _settle_synced(self, batch: list[Work]) -> None:
        try:
            await self.spool.synced()
        except Refusal as refusal:
            _fail(batch, refusal)
        _let_go(batch)

    def _finish(self, exchange: Exchange, error: Exception | None) -> None:
        """The work of an exchange has come to its end: its answer goes back, or its refusal."""
        if exchange.done:
            return
        if error is not None:
            self._refuse(exchange, error)
            return
        work = exchange.work
        assert work is not None
        assert work.answer is not None
        assert exchange.key is not None
        assert exchange.tally is not None
        body, content_type, headers = work.answer
        ended = time.monotonic()
        queue_us = int((work.taken_at - work.queued_at) * 1e6)
        self.statistics.totals.queue_us[bucket(queue_us)] += 1
        exchange.tally.answered(
            rows=work.rows, queue_us=queue_us, compute_us=work.compute_us,
            total_us=int((ended - exchange.started) * 1e6), at_ms=exchange.admitted_ms,
        )  # fmt: skip
        answer = Answer(200, body, [(b"content-type", content_type), *headers, *self._rate_headers(exchange.key)])
        self._deliver(exchange, answer)
        self._look_again(exchange, work, ended)

    def _late(self, exchange: Exchange) -> None:
        self._finish(exchange, DeadlineExceeded("The deadline passed before the answer was there."))

    def _refuse(self, exchange: Exchange, error: Exception) -> None:
        """Ends an exchange with a refusal in the words of its protocol."""
        if exchange.done:
            return
        if not isinstance(error, Refusal):
            logger.error("request %s failed", exchange.id, exc_info=error)
            error = Fault("The request failed through no fault of yours; it was logged.")
        self._drop(exchange)
        if exchange.tally is not None:
            spent_us = int((time.monotonic() - exchange.started) * 1e6)
            exchange.tally.refused(status=error.status, total_us=spent_us)
        found = exchange.found
        protocol = found.route.protocol if found is not None else routes.protocol_of(exchange.request.path)
        known = exchange.key is not None and exchange.deployment is not None
        more = self._rate_headers(exchange.key) if known and exchange.key is not None else []
        self._deliver(exchange, _refused(error, protocol, more))

    def _drop(self, exchange: Exchange) -> None:
        """Takes an exchange's work out of its queue and gives back what it had reserved."""
        if exchange.work is not None:
            exchange.work.abandoned = True
            assert exchange.version is not None
            exchange.version.queue.forget(exchange.work)
        if exchange.spent is not None:
            exchange.spent.give_back()
            exchange.spent = None
        if exchange.place is not None:
            exchange.place.leave()
            exchange.place = None

    def _deliver(self, exchange: Exchange, answer: Answer) -> None:
        exchange.done = True
        self.statistics.totals.delivered(answer.status, int((time.monotonic() - exchange.started) * 1e6))
        if exchange.place is not None:
            exchange.place.leave()
            exchange.place = None
        if exchange.timer is not None:
            exchange.timer.cancel()
        answer.headers.append((b"x-request-id", exchange.id.encode()))
        exchange.deliver(answer)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request of a prediction path by ASGI, for what does not come whole (`http.py`)."""
        headers: Headers = dict(scope["headers"])
        delivered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        try:
            if scope["method"] in ("POST", "PUT", "PATCH"):
                self.directory.check_fresh(time.monotonic())
                gate.identify(headers, self.directory)  # before a byte of the body is read
            body = await gate.read_body(headers, receive, self.limits)
        except Disconnected:
            return
        except Refusal as refusal:
            answer = _refused(refusal, routes.protocol_of(scope["path"]))
        else:
            request = Request(scope["method"], scope["path"], scope.get("query_string", b""), headers, body)
            answer = await self._answered(request, delivered, receive)
        answer.headers.append((b"content-length", str(len(answer.body)).encode()))
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        await send({"type": "http.response.body", "body": answer.body})

    async def _answered(self, request: Request, delivered: "asyncio.Future[Answer]", receive: Receive) -> Answer:
        """The answer of an exchange; a caller that leaves meanwhile is heard of."""
        exchange = self.begin(request, delivered.set_result)
        if not delivered.done():
            leaving = asyncio.ensure_future(self._watch(exchange, delivered, receive))
            try:
                return await delivered
            finally:
                leaving.cancel()
        return delivered.result()

    async def _watch(self, exchange: Exchange, delivered: "asyncio.Future[Answer]", receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.abandon(exchange)
        delivered.cancel()

    async def _rotate(self) -> None:
        while True:
            await asyncio.sleep(SEGMENT_SECONDS)
            self.spool.rotate_if_possible()
            self._in_thread(self._metrics.write, metrics.reading(self))
            for verdict in self.watch.due(time.monotonic()):
                self._in_thread(watch.roll_back, verdict)

    def _directory_changed(self) -> None:
        self.versions.keep_only(self.directory.versions().values(), until_loaded=self.directory.until_loaded())
        served = self.directory.served()
        self.statistics.keep_only(served)
        if self.ready:
            self.shadows.keep_only(served)
        self.traffic.keep_only({(tenant_id, name) for tenant_id, name, _ in served})

    def _in_thread(self, call: Any, *arguments: Any) -> "asyncio.Future[Any]":
        return self._loop.run_in_executor(self._threads, call, *arguments)

    def _spawn(self, step: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        self._tasks.add(task := self._loop.create_task(step))
        task.add_done_callback(self._tasks.discard)
        return task

    def _rate_headers(self, key: KeyEntry) -> HeaderList:
        now = time.time()
        parts = ", ".join(
            [
                f'"{lease.period}";r={lease.remaining + lease.units};t={max(0, int(lease.ends_at - now))}'
                for lease in self.leases.of(key.tenant)
            ]
        )
        if not parts:
            return []
        return [(b"ratelimit", parts.encode()), (b"ratelimit-policy", key.tenant.rate_policy.encode())]


def _let_go(batch: list[Work]) -> None:
    for work in batch:
        if work.receipt is not None:
            work.receipt.settle(work.error)


def _fail(works: list[Work], error: Exception) -> None:
    for work in works:
        work.error = work.error or error


def _half_of_memory() -> int:
    return int(psutil.virtual_memory().total) // 2


def _to_nobody(answer: Answer) -> None:
    del answer


def _never() -> float:
    return time.monotonic() + 60


def _refused(refusal: Refusal, protocol: WireProtocol, more: Iterable[tuple[bytes, bytes]] = ()) -> Answer:
    body, content_type = protocol.render_error(refusal)
    headers = [(name.lower().encode(), value.encode()) for name, value in problems.headers(refusal).items()]
    return Answer(refusal.status, body, [(b"content-type", content_type), *headers, *more])


class Fault(Refusal):
    status, title, slug = 500, "A fault on our side", "fault"
