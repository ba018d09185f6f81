"""The prediction plane: an ASGI application beside Django.

A warm prediction makes no query, and reads here from top to bottom:
identify → find the deployment → admit → decode → queue → run in a batch → encode → record → answer.
"""

import asyncio
import logging
import os
import random
import re
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from django.conf import settings

from inference.batching import HostRows, Reply, Work
from inference.plane import gate
from inference.plane.directory import DeploymentEntry, Directory, KeyEntry, UnknownDeployment
from inference.plane.feed import Feed
from inference.plane.gate import Disconnected, Headers, Limits, Receive, Scope, Send
from inference.plane.leases import Leases, Spent
from inference.plane.shipping import Shipper
from inference.plane.spool import SEGMENT_SECONDS, Spool, frame
from inference.plane.versions import LoadedVersion, Versions
from inference.protocols import tensorflow_serving
from inference.protocols.base import Call, PredictRequest, WireProtocol, decompressed
from inference.protocols.native import Native
from inference.protocols.tensorflow_serving import TensorFlowServing
from inference.scheduling import EngineThreads, Lane
from tenants.api import problems
from tenants.errors import DeadlineExceeded, MethodNotAllowed, NotFound, Refusal, TooLarge

NATIVE_PATH = re.compile(r"/api/v1/deployments/(?P<name>[^/]+)/predict/?")
TENSORFLOW_PREFIX = "/v1/"
# A body above this is parsed in a thread, so that it does not hold up the loop.
INLINE_BODY_BYTES = 32 * 1024
# Rows that a small model may run on the loop at once.
INLINE_SECONDS = 300e-6
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back."""

    status: int
    body: bytes
    headers: list[tuple[bytes, bytes]]


class Plane:
    """The application, and the parts that it stands on, from `start` to `stop`."""

    def __init__(self) -> None:
        self.limits = Limits(
            body_bytes=settings.INFERENCE_MAX_BODY_BYTES,
            rows=settings.INFERENCE_MAX_QUEUED_ROWS,
            deadline_seconds=settings.INFERENCE_DEADLINE_SECONDS,
        )
        self.directory = Directory()
        self.ready = False
        self._syncs: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Loads the directory, then opens the spool and the engine threads."""
        self._loop = asyncio.get_running_loop()
        host = HostRows(settings.INFERENCE_MAX_QUEUED_ROWS_HOST)
        self.versions = Versions(queue_limit=settings.INFERENCE_MAX_QUEUED_ROWS, host=host)
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
        self.engines = EngineThreads(threads=settings.INFERENCE_THREADS or os.cpu_count() or 1, finish=self._finished)
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
        await self.feed.stop()
        self.versions.close()
        self._threads.shutdown()

    def healthy(self) -> bool:
        """Whether it answers: started, not stopping, and in sight of the database."""
        return self.ready and self.directory.is_fresh(time.monotonic())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request of a prediction path (`takes`)."""
        path: str = scope["path"]
        headers: Headers = dict(scope["headers"])
        request_id = new_request_id()
        protocol: WireProtocol = TENSORFLOW_SERVING if _is_tensorflows(path) else Native("")
        try:
            if protocol is TENSORFLOW_SERVING:
                answer = await self._tensorflow_serving(scope["method"], path, headers, receive, request_id)
            else:
                answer = await self._native(scope["method"], path, headers, receive, request_id)
        except Disconnected:
            return
        except Refusal as refusal:
            answer = _refused(refusal, protocol)
        except Exception:
            logger.exception("request %s failed", request_id)
            answer = _refused(Fault("The request failed through no fault of yours; it was logged."), protocol)
        answer.headers.extend(
            ((b"content-length", str(len(answer.body)).encode()), (b"x-request-id", request_id.encode()))
        )
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        await send({"type": "http.response.body", "body": answer.body})

    async def _native(self, method: str, path: str, headers: Headers, receive: Receive, request_id: str) -> Answer:
        found = NATIVE_PATH.fullmatch(path)
        if found is None:
            raise NotFound(f"There is nothing at {path}.")
        _expect(method, "POST")
        return await self._predict(Native(found["name"]), found["name"], headers, receive, request_id)

    async def _tensorflow_serving(
        self, method: str, path: str, headers: Headers, receive: Receive, request_id: str
    ) -> Answer:
        found = tensorflow_serving.PATH.fullmatch(path)
        if found is None:
            raise NotFound(f"There is nothing at {path}.")
        name, version, label, rest = found["name"], found["version"] or "", found["label"] or "", found["rest"].lower()
        if rest == ":predict":
            _expect(method, "POST")
            return await self._predict(TENSORFLOW_SERVING, name, headers, receive, request_id, version, label)
        if rest.startswith(":"):
            raise NotFound(f"The method {rest[1:]!r} is not served here; this model answers :predict.")
        _expect(method, "GET")
        _, deployment = await self._find(headers, name)
        tensorflow_serving.check_version(deployment.version, name=name, version=version, label=label)
        if rest == "/metadata":
            return _json(tensorflow_serving.metadata(deployment))
        return _json(tensorflow_serving.status(deployment, self.versions.states().get(deployment.version.id, "START")))

    async def _predict(
        self,
        protocol: WireProtocol,
        name: str,
        headers: Headers,
        receive: Receive,
        request_id: str,
        version_wanted: str = "",
        label_wanted: str = "",
    ) -> Answer:
        admitted_ms = time.time_ns() // 1_000_000
        deadline = gate.deadline(headers, self.limits, now=self._loop.time())
        key, deployment = await self._find(headers, name)
        try:
            async with asyncio.timeout_at(deadline):
                if version_wanted or label_wanted:
                    tensorflow_serving.check_version(
                        deployment.version, name=name, version=version_wanted, label=label_wanted
                    )
                body = await gate.read_body(headers, receive, self.limits)
                version = self.versions.loaded(deployment.version.id)
                if version is None:
                    version = await self.versions.load(deployment.version)
                call = await self._parse(protocol, version, headers, body, request_id)
                spent = await self.leases.spend(key.tenant, call.rows)
                receipt = Receipt(request_id, admitted_ms, key, deployment, len(body), self._loop.create_future())
                work = Work(call.rows, deadline, call.render, inputs=call.inputs, raw=call.raw, receipt=receipt)
                answer = await self._run(version, work, receipt, spent, receive)
        except TimeoutError:
            late = DeadlineExceeded("The deadline passed before the answer was there.")
            return _refused(late, protocol, self._rate_headers(key))
        except Refusal as refusal:
            return _refused(refusal, protocol, self._rate_headers(key))
        return Answer(
            200, answer.body, [(b"content-type", answer.content_type), *answer.headers, *self._rate_headers(key)]
        )

    async def _find(self, headers: Headers, name: str) -> tuple[KeyEntry, DeploymentEntry]:
        """Who asks, and for what. A name that is not known may have been deployed this moment: asked for once more."""
        self.directory.check_fresh(time.monotonic())
        key = gate.identify(headers, self.directory)
        try:
            return key, key.tenant.deployment(name)
        except UnknownDeployment:
            await self.feed.catch_up()
        key = gate.identify(headers, self.directory)
        return key, key.tenant.deployment(name)

    async def _parse(
        self, protocol: WireProtocol, version: LoadedVersion, headers: Headers, body: bytes, request_id: str
    ) -> Call:
        encoding = headers.get(b"content-encoding", b"").decode("latin-1").lower()
        content_type = headers.get(b"content-type", b"").partition(b";")[0].strip().lower().decode("latin-1")

        def parse() -> Call:
            plain = decompressed(body, encoding, self.limits.body_bytes) if encoding else body
            return protocol.parse(PredictRequest(id=request_id, content_type=content_type, body=plain), version)

        if not encoding and (len(body) <= INLINE_BODY_BYTES or content_type.startswith("image/")):
            call = parse()
        else:
            call = await self._loop.run_in_executor(self._threads, parse)
        if call.rows > self.limits.rows:
            raise TooLarge(f"The request has {call.rows:,} rows; the limit is {self.limits.rows:,}.")
        return call

    async def _run(
        self, version: LoadedVersion, work: Work, receipt: "Receipt", spent: Spent, receive: Receive
    ) -> Reply:
        """Queues the work and waits until its answer is there and recorded."""
        try:
            version.queue.put(work)
            measured = version.measured
            if measured.inline and work.rows * measured.seconds[1] < INLINE_SECONDS:
                # Everything that this turn of the loop brings becomes one batch.
                if not version.flushing:
                    version.flushing = True
                    self._loop.call_soon(self._flush, version)
                await receipt.settled
            else:
                self.engines.announce(version)
                await _settled(receipt, receive)
            assert work.answer is not None
            return work.answer
        except BaseException:
            work.abandoned = True
            spent.give_back()
            raise

    def _flush(self, version: LoadedVersion) -> None:
        """Runs what is queued for a small model, on the loop."""
        version.flushing = False
        while batch := version.queue.take(self._loop.time()):
            version.run(batch)
            self._settle(batch)

    def _finished(self, lane: Lane, batch: list[Work]) -> None:
        """Called by an engine thread: one hop back for the whole batch."""
        del lane
        self._loop.call_soon_threadsafe(self._settle, batch)

    def _settle(self, batch: list[Work]) -> None:
        """Records every answer of the batch with one write, and only then lets them go."""
        answered = [work for work in batch if work.error is None and not work.abandoned]
        try:
            if answered:
                self.spool.append(b"".join([frame(work.receipt.payload(work)) for work in answered if work.receipt]))
        except Refusal as refusal:
            _fail(answered, refusal)
        except Exception as error:
            logger.exception("the usage of %d requests could not be recorded", len(answered))
            _fail(answered, error)
        if self.spool.durable and answered:
            self._syncs.add(sync := self._loop.create_task(self._settle_synced(batch)))
            sync.add_done_callback(self._syncs.discard)
        else:
            _let_go(batch)

    async def _settle_synced(self, batch: list[Work]) -> None:
        try:
            await self.spool.synced()
        except Refusal as refusal:
            _fail(batch, refusal)
        _let_go(batch)

    async def _rotate(self) -> None:
        while True:
            await asyncio.sleep(SEGMENT_SECONDS)
            self.spool.rotate_if_possible()

    def _directory_changed(self) -> None:
        self.versions.keep_only(self.directory.versions().values())

    def _in_thread(self, call: Any, *arguments: Any) -> "asyncio.Future[Any]":
        return self._loop.run_in_executor(self._threads, call, *arguments)

    def _rate_headers(self, key: KeyEntry) -> list[tuple[bytes, bytes]]:
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


@dataclass(slots=True)
class Receipt:
    """What the ledger gets to know of one answered request."""

    request_id: str
    admitted_ms: int
    key: KeyEntry
    deployment: DeploymentEntry
    input_bytes: int
    settled: "asyncio.Future[None]"

    def payload(self, work: Work) -> bytes:
        """The record, as `tenants.usage.encode` would write it; names hold nothing that JSON would escape."""
        version = self.deployment.version
        return (
            f'["{self.request_id}",{self.admitted_ms},"{version.tenant_id}","{self.key.id}","{self.deployment.name}",'
            f'"{version.model}@{version.number}",{{"requests":1,"predictions":{work.rows},'
            f'"compute_us":{work.compute_us},"input_bytes":{self.input_bytes}}}]'
        ).encode()

    def settle(self, error: Exception | None) -> None:
        if self.settled.done():
            return
        if error is None:
            self.settled.set_result(None)
        else:
            self.settled.set_exception(error)


def takes(path: str) -> bool:
    """Whether a path is the plane's; everything else is Django's."""
    return _is_tensorflows(path) or NATIVE_PATH.fullmatch(path) is not None


def _is_tensorflows(path: str) -> bool:
    """Whether a path is TensorFlow Serving's, which takes no heed of case."""
    return path[: len(TENSORFLOW_PREFIX)].lower() == TENSORFLOW_PREFIX


def new_request_id() -> str:
    """A UUIDv7: 48 bits of Unix milliseconds, then random bits."""
    number = (
        (time.time_ns() // 1_000_000) << 80 | 7 << 76 | random.getrandbits(12) << 64 | 2 << 62 | random.getrandbits(62)
    )
    text = f"{number:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _let_go(batch: list[Work]) -> None:
    for work in batch:
        if work.receipt is not None:
            work.receipt.settle(work.error)


def _fail(works: list[Work], error: Exception) -> None:
    for work in works:
        work.error = work.error or error


async def _settled(receipt: Receipt, receive: Receive) -> None:
    """Waits for the answer; a caller that leaves meanwhile is heard of."""
    leaving = asyncio.ensure_future(_disconnect(receipt, receive))
    try:
        await receipt.settled
    finally:
        leaving.cancel()


async def _disconnect(receipt: Receipt, receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    receipt.settle(Disconnected())


def _expect(method: str, wanted: str) -> None:
    if method != wanted:
        raise MethodNotAllowed(f"{method} is not taken here; expected {wanted}.")


def _json(document: dict[str, Any]) -> Answer:
    return Answer(200, orjson.dumps(document), [(b"content-type", b"application/json")])


def _refused(refusal: Refusal, protocol: WireProtocol, more: Iterable[tuple[bytes, bytes]] = ()) -> Answer:
    body, content_type = protocol.render_error(refusal)
    headers = [(name.lower().encode(), value.encode()) for name, value in problems.headers(refusal).items()]
    return Answer(refusal.status, body, [(b"content-type", content_type), *headers, *more])


class Fault(Refusal):
    status, title, slug = 500, "A fault on our side", "fault"


TENSORFLOW_SERVING = TensorFlowServing()
