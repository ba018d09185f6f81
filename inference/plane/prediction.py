"""The way of a prediction to its engine, as one page.

identify → find the deployment → choose the version → decode → admit → queue. A warm prediction makes no query and waits
for nothing here; what is cold raises Waiting, and the way is walked again when it is there.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from inference import batching
from inference.plane import cache, gate, routing, streams, traffic
from inference.plane.directory import DeploymentEntry, Directory, KeyEntry, UnknownDeployment, VersionEntry
from inference.plane.exchange import Exchange, Waiting
from inference.plane.feed import Feed
from inference.plane.gate import Limits
from inference.plane.leases import Leases
from inference.plane.routing import Target
from inference.plane.settling import Settling
from inference.plane.statistics import Statistics
from inference.plane.streams import Streams
from inference.plane.traffic import Traffic
from inference.plane.versions import LoadedVersion, Versions
from inference.protocols.base import Call, Found, PredictRequest, decompressed
from inference.scheduling import EngineThreads
from inference.work import Work
from tenants.errors import TooLarge

# A body above this is parsed in a thread, so that it does not hold up the loop; one that is not JSON costs nothing.
INLINE_BODY_BYTES = 32 * 1024
# Rows that a small model may run on the loop at once.
INLINE_SECONDS = 300e-6
# A lone request as cheap as this runs on the loop, too.
ALONE_SECONDS = 2e-3
# So long the version before a switch goes on at most, while the new one is loaded.
WARM_UP_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Predictions:
    """What predictions pass on their way."""

    loop: asyncio.AbstractEventLoop
    limits: Limits
    directory: Directory
    feed: Feed
    versions: Versions
    leases: Leases
    traffic: Traffic
    statistics: Statistics
    engines: EngineThreads
    settling: Settling
    streams: Streams
    in_thread: Callable[..., "asyncio.Future[Any]"]

    def walk(self, exchange: Exchange, found: Found) -> None:
        """Brings a request into the queue of its version, or to an answer that is kept."""
        now = time.monotonic()
        if not exchange.deadline:
            exchange.deadline = gate.deadline(exchange.request.head, self.limits, now=now)
        before = exchange.deployment
        key, deployment = self.find(exchange, found, now)
        target = exchange.target
        if target is None or before is not deployment:
            target = self._choose(exchange, found, key, deployment)
        version = self._version(exchange, found, deployment, target.version, now)
        if exchange.call is None or exchange.version is not version:
            # What was parsed for another version does not fit this one.
            exchange.version, exchange.call = version, None
            if not deployment.cache_seconds:
                version.queue.check(1)  # a flood is refused before anything is done for it
            exchange.call = self._parse(exchange, found, version)
        call = exchange.call
        self._check_rows(deployment, version, call)
        spent = self.leases.spend(key, deployment.name, call.rows)
        if spent is None:
            raise Waiting(self.leases.fill(key, deployment.name, call.rows))
        exchange.spent = spent
        exchange.admitted_ms = int(spent.at * 1000)  # the moment that its quotas, and its bill, go by
        self.versions.counters.asked(cold=exchange.cold)
        if (deployment.cache_seconds or target.shadow) and self._answered_from_cache(exchange, deployment, version):
            return
        self._queue(exchange, version, exchange.call)

    def find(self, exchange: Exchange, found: Found, now: float) -> tuple[KeyEntry, DeploymentEntry]:
        """Who asks, and for what. A name that is not known may have been deployed this moment: asked for once more."""
        self.directory.check_fresh(now)
        key = exchange.key = gate.identify(exchange.request.head, exchange.request.client, self.directory)
        deployment = key.deployment(found.name)
        if deployment is None:
            if exchange.caught_up:
                raise UnknownDeployment(found.name)
            exchange.caught_up = True
            raise Waiting(self.feed.catch_up())
        exchange.deployment = deployment
        return key, deployment

    def _choose(self, exchange: Exchange, found: Found, key: KeyEntry, deployment: DeploymentEntry) -> Target:
        """Draws the target of a request; while the deployment is as it was, it stays the same."""
        exchange.target = target = routing.choose(
            deployment, key=key, headers=exchange.request.head.headers, version=found.version, label=found.label
        )
        if deployment.limits is not None and exchange.place is None:
            self.traffic.admit(exchange, deployment, deployment.limits)
        return target

    def _version(
        self, exchange: Exchange, found: Found, deployment: DeploymentEntry, entry: VersionEntry, now: float
    ) -> LoadedVersion:
        """The version that answers: the one wanted, or the one that stands in for it while it is loaded."""
        version = self.versions.loaded(entry.id, use=True)
        if version is None and not (found.version or found.label):
            version = self._standing_in(deployment, entry, now)
        label = entry.label if version is None else version.entry.label
        exchange.tally = self.statistics.of((entry.tenant_id, deployment.name, label))
        if version is None:
            exchange.cold = True
            raise Waiting(self.versions.load(entry))
        return version

    def _standing_in(self, deployment: DeploymentEntry, entry: VersionEntry, now: float) -> LoadedVersion | None:
        """The version that answered before, while the one that is to answer now warms up."""
        if entry.id == deployment.version.id:
            before, since = deployment.previous, deployment.since
        else:
            before, since = deployment.version, deployment.split_at
        if before is None or now - since > WARM_UP_SECONDS:
            return None
        standing_in = self.versions.loaded(before.id, use=True)
        if standing_in is not None:
            self.versions.warm(entry)
        return standing_in

    def _parse(self, exchange: Exchange, found: Found, version: LoadedVersion) -> Call:
        """The call that the request's body makes; a large body is parsed in a thread."""
        head, size = exchange.request.head, len(exchange.request.body)
        if head.encoding or (size > INLINE_BODY_BYTES and not (version.pipeline is None and head.read_quickly)):
            raise Waiting(self.in_thread(self._parse_here, exchange, found, version))
        return self._parse_here(exchange, found, version)

    def _parse_here(self, exchange: Exchange, found: Found, version: LoadedVersion) -> Call:
        """The same, in the thread that calls."""
        head, body, route = exchange.request.head, exchange.request.body, found.route
        if head.encoding:
            body = decompressed(body, head.encoding, self.limits.body_bytes)
        asked = PredictRequest(exchange.id, head.content_type, body, found.name, route.verb, head.headers)
        call = route.protocol.parse(asked, version)
        if version.pipeline is not None and call.rows:
            assert call.inputs is not None
            call = replace(call, bucket=version.pipeline.buckets(call.inputs))
        exchange.call = call
        return call

    def _check_rows(self, deployment: DeploymentEntry, version: LoadedVersion, call: Call) -> None:
        if deployment.limits is not None:
            traffic.check_rows(deployment.limits, call.rows, queued=version.queue.rows)
        if call.rows > self.limits.rows:
            raise TooLarge(f"The request has {call.rows:,} rows; the limit is {self.limits.rows:,}.")

    def _answered_from_cache(self, exchange: Exchange, deployment: DeploymentEntry, version: LoadedVersion) -> bool:
        """Whether outputs that are kept answer it: recorded as any answer, with no compute time.

        If they do not, what the engine puts out is kept, for the cache and for the shadow.
        """
        found, request, call, now = exchange.found, exchange.request, exchange.call, time.monotonic()
        assert found is not None
        assert call is not None
        outputs = None
        if deployment.cache_seconds:
            reader = f"{type(found.route.protocol).__name__}.{found.route.verb}"
            exchange.cache_key = cache.key_of(
                version.tenant_id, version.entry.id, reader=reader, headers=request.head.headers, body=request.body
            )
            outputs = self.settling.cache.get(exchange.cache_key, seconds=deployment.cache_seconds, now=now)
        if outputs is None:
            exchange.call = replace(call, render=exchange.keeping(call.render))
            return False
        exchange.cache_key = None
        work = exchange.work = Work(call.rows, exchange.deadline, call.render, receipt=exchange, queued_at=now)
        work.taken_at, work.taken = now, True
        work.answer = call.render(outputs)
        if exchange.tally is not None:
            exchange.tally.cache_hits += 1
        self.settling.settle([work], ran=False)
        return True

    def _queue(self, exchange: Exchange, version: LoadedVersion, call: Call) -> None:
        """Queues the work, for the loop itself if it is cheap, else for an engine's thread; a stream has its own."""
        now = time.monotonic()
        if call.timeout is not None:
            exchange.deadline = min(exchange.deadline, now + call.timeout)
        work = exchange.work = Work(
            call.rows, exchange.deadline, call.render, inputs=call.inputs, raw=call.raw, receipt=exchange,
            priority=call.priority, bucket=call.bucket, queued_at=now,
        )  # fmt: skip
        if exchange.partial is not None and streams.can(version, call):
            self.streams.check(version.tenant_id)
            self._end_in_time(exchange)
            self.streams.begin(exchange, version, work)
            return
        version.queue.put(work)
        if self._is_for_loop(version, call):
            self._flush_soon(exchange, version)
        else:
            self._end_in_time(exchange)
            self.engines.announce(version)

    def _is_for_loop(self, version: LoadedVersion, call: Call) -> bool:
        """Whether work that is queued now may run on the loop: it is cheap, or cheap enough for one that is alone."""
        if version.inline and call.rows * version.row_seconds < INLINE_SECONDS and not version.is_long(call.bucket):
            return True
        alone = self.engines.idle and version.was_alone
        return alone and version.alone_seconds < ALONE_SECONDS and version.is_quick(call)

    def _end_in_time(self, exchange: Exchange) -> None:
        """Sees to it that the caller hears of it when the deadline passes before an answer is there."""
        if not exchange.done:
            wait = exchange.deadline - time.monotonic()
            exchange.timer = self.loop.call_later(wait, self.settling.late, exchange)

    def _flush_soon(self, exchange: Exchange, version: LoadedVersion) -> None:
        """Everything that this turn of the loop brings becomes one batch."""
        if not version.brought:
            self.loop.call_soon(self._flush, version)
        version.brought.append(exchange)

    def _flush(self, version: LoadedVersion) -> None:
        """Runs what is queued for a small model on the loop, and a lone request, which two thread hops would delay.

        The loop is at nothing else until it has, so no deadline need be watched meanwhile.
        """
        brought, version.brought = version.brought, []
        alone = version.queue.rows <= 1 and self.engines.idle
        if version.queue.has_long() or not (version.inline or alone):
            for exchange in brought:
                self._end_in_time(exchange)
            self.engines.announce(version)
            return
        self.engines.passed_by(version.tenant_id, time.monotonic())
        while batch := version.queue.take(time.monotonic()):
            version.run(batch, alone=True)
            self.settling.settle(batching.ended(batch))
