"""The end of an exchange: an answer is recorded and only then let go, a refusal costs nothing."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from inference.plane import clock, routes
from inference.plane.cache import Cache
from inference.plane.exchange import Answer, Exchange, HeaderList
from inference.plane.leases import Leases
from inference.plane.pacing import Pace
from inference.plane.shadow import Shadows
from inference.plane.spool import Spool, frame
from inference.plane.statistics import Statistics, Tally, bucket
from inference.protocols.base import WireProtocol
from inference.work import Work
from tenants.api import problems
from tenants.errors import DeadlineExceeded, OverQuota, Refusal

# Refusals of larger requests are not held back: their size is pace enough, and they would be held in memory.
HELD_BODY_BYTES = 128 * 1024
# A caller's deadline shortens how long a refusal is held back, but not below this: floods would say a short one.
LEAST_HELD_SECONDS = 0.25
# What is written down where a caller left before its answer: there is no such status in HTTP.
LEFT = 499
logger = logging.getLogger(__name__)


class Fault(Refusal):
    status = 500
    title = "A fault on our side"
    slug = "fault"


class Observer(Protocol):
    """Who hears of each exchange when its answer has gone."""

    def ended(self, exchange: Exchange, answer: Answer, total_us: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Settling:
    """Where exchanges end. On the event loop only."""

    spool: Spool
    leases: Leases
    statistics: Statistics
    cache: Cache
    shadows: Shadows
    spawn: Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"]
    observers: tuple[Observer, ...] = ()
    pace: Pace = field(default_factory=Pace)

    def settle(self, batch: list[Work], *, ran: bool = True) -> None:
        """Records every answer of the batch with one write, and only then lets them go."""
        answered = [work for work in batch if work.error is None and not work.abandoned]
        tally = _tally_of(answered) if ran else None
        try:
            billed = [work.receipt.record(work) for work in answered if isinstance(work.receipt, Exchange)]
            if billed:
                frames = b"".join([frame(payload) for payload, _ in billed])
                self.spool.append(frames, [counted for _, counted in billed])
        except Refusal as refusal:
            _fail(answered, refusal)
        except Exception as error:
            logger.exception("the usage of %d requests could not be recorded", len(answered))
            _fail(answered, error)
        if self.spool.durable and answered:
            self.spawn(self._settle_synced(batch))
        else:
            self._let_go(batch)
        if tally is not None:
            self._count(tally, answered)

    def finish(self, exchange: Exchange, error: Exception | None) -> None:
        """The work of an exchange has come to its end: its answer goes back, or its refusal."""
        if exchange.done:
            return
        if error is not None:
            self.refuse(exchange, error)
            return
        work, tally = exchange.work, exchange.tally
        assert work is not None
        assert work.answer is not None
        assert tally is not None
        assert exchange.key is not None
        now = time.monotonic()
        total_us = int((now - exchange.started) * 1e6)
        reply = work.answer
        answer = Answer(
            200, reply.body, [(b"content-type", reply.content_type), *reply.headers, *self.rate_headers(exchange, now)]
        )
        self._deliver(exchange, answer, total_us)
        queue_us = int((work.taken_at - work.queued_at) * 1e6)
        self.statistics.totals.queue_us[bucket(queue_us)] += 1
        tally.answered(
            rows=work.rows, queue_us=queue_us, compute_us=work.compute_us, total_us=total_us,
            at_ms=exchange.admitted_ms,
        )  # fmt: skip
        if exchange.outputs is not None:
            self._look_again(exchange, work, now)

    def late(self, exchange: Exchange) -> None:
        """The deadline has passed while the work waited or ran."""
        self.finish(exchange, DeadlineExceeded("The deadline passed before the answer was there."))

    def refuse(self, exchange: Exchange, error: Exception) -> None:
        """Ends an exchange with a refusal in the words of its protocol, which a tenant that floods is told later."""
        if exchange.done:
            return
        if not isinstance(error, Refusal):
            logger.error("request %s failed", exchange.id, exc_info=error)
            error = Fault("The request failed through no fault of yours; it was logged.")
        self.drop(exchange)
        now = time.monotonic()
        total_us = int((now - exchange.started) * 1e6)
        self.statistics.totals.refused(error.slug)
        tally = exchange.tally or self._tally_of_none(exchange)
        if tally is not None:
            tally.refused(status=error.status, total_us=total_us)
        answer = refused(error, protocol_of(exchange), self.rate_headers(exchange, now))
        size = len(exchange.request.body)
        if (delay := self._delay(exchange, error)) and self.pace.hold(size):
            self._close(exchange)
            asyncio.get_running_loop().call_later(delay, self._send_held, exchange, answer, total_us)
        else:
            self._deliver(exchange, answer, total_us)

    def answer(self, exchange: Exchange, answer: Answer) -> None:
        """Ends an exchange that was about no prediction."""
        self._deliver(exchange, answer, int((time.monotonic() - exchange.started) * 1e6))

    def abandon(self, exchange: Exchange) -> None:
        """Ends an exchange whose caller left before an engine took its work: it costs nothing and counts for nobody."""
        self.drop(exchange)
        total_us = int((time.monotonic() - exchange.started) * 1e6)
        self._close(exchange)
        self._tell(exchange, Answer(LEFT, b"", []), total_us)

    def drop(self, exchange: Exchange) -> None:
        """Takes an exchange's work out of its queue and gives back what it had reserved."""
        if exchange.work is not None:
            exchange.work.abandoned, exchange.work.receipt = True, None
            assert exchange.version is not None
            exchange.version.queue.forget(exchange.work)
        if exchange.spent is not None:
            exchange.spent.give_back()
            exchange.spent = None
        exchange.leave_place()

    def _delay(self, exchange: Exchange, refusal: Refusal) -> float:
        """So many seconds a refusal is held back, because its tenant has asked for too much too often."""
        if refusal.status != OverQuota.status or exchange.key is None or len(exchange.request.body) > HELD_BODY_BYTES:
            return 0.0
        now = time.monotonic()
        delay = self.pace.delay(exchange.key.tenant.id, now)
        if exchange.deadline:
            delay = min(delay, max(LEAST_HELD_SECONDS, exchange.deadline - now))
        return delay

    def _send_held(self, exchange: Exchange, answer: Answer, total_us: int) -> None:
        """What it took is told without the time that it was held, which says nothing of how quick the server is."""
        self.pace.told(len(exchange.request.body))
        self._send(exchange, answer, total_us)

    def _deliver(self, exchange: Exchange, answer: Answer, total_us: int) -> None:
        """Sends the answer, and does all that its caller need not wait for after that."""
        exchange.done = True
        try:
            self._send(exchange, answer, total_us)
        finally:
            self._close(exchange)

    def _send(self, exchange: Exchange, answer: Answer, total_us: int) -> None:
        answer.headers.append((b"x-request-id", exchange.id.encode()))
        exchange.deliver(answer)
        self.statistics.totals.delivered(answer.status, total_us)
        if self.observers:
            self._tell(exchange, answer, total_us)

    def _close(self, exchange: Exchange) -> None:
        exchange.done = True
        exchange.leave_place()
        if exchange.spent is not None:
            exchange.spent.leave()
        if exchange.timer is not None:
            exchange.timer.cancel()

    def _tell(self, exchange: Exchange, answer: Answer, total_us: int) -> None:
        for observer in self.observers:
            try:
                observer.ended(exchange, answer, total_us)
            except Exception:
                logger.exception("request %s could not be written down", exchange.id)

    def _tally_of_none(self, exchange: Exchange) -> Tally | None:
        """The tally of a deployment's predictions that were refused before a version was chosen."""
        found, key, deployment = exchange.found, exchange.key, exchange.deployment
        if found is None or found.route.view is not None or key is None or deployment is None:
            return None
        return self.statistics.of((key.tenant.id, deployment.name, ""))

    def _count(self, tally: Tally, answered: list[Work]) -> None:
        """A batch that an engine ran."""
        totals, rows = self.statistics.totals, sum([work.rows for work in answered])
        tally.batches += 1
        tally.batch_rows += rows
        totals.rows += rows
        totals.batch_rows[bucket(rows)] += 1
        totals.compute_us[bucket(sum([work.compute_us for work in answered]))] += 1

    def _look_again(self, exchange: Exchange, work: Work, now: float) -> None:
        """After the answer has gone: keeps what the engine put out, and asks the shadow."""
        outputs, deployment, target = exchange.outputs, exchange.deployment, exchange.target
        assert outputs is not None
        assert deployment is not None
        assert target is not None
        if exchange.cache_key is not None:
            self.cache.put(exchange.cache_key, outputs, now=now)
        if target.shadow is not None:
            self.shadows.follow(work, outputs, target.shadow, deployment=deployment.name, now=now)
        # What rendered the answer holds the exchange, which must not hold it in turn.
        exchange.call = exchange.work = None

    async def _settle_synced(self, batch: list[Work]) -> None:
        try:
            await self.spool.synced()
        except Refusal as refusal:
            _fail(batch, refusal)
        self._let_go(batch)

    def _let_go(self, batch: list[Work]) -> None:
        """Each on its own: what goes wrong with one keeps none of the others waiting.

        Work and its receipt let go of one another, so that no garbage collector is needed to find them.
        """
        for work in batch:
            receipt, work.receipt = work.receipt, None
            try:
                if isinstance(receipt, Exchange):
                    self.finish(receipt, work.error)
                elif receipt is not None:
                    receipt.settle(work.error)
            except Exception:
                logger.exception("an answer could not be let go")

    def rate_headers(self, exchange: Exchange, now: float) -> HeaderList:
        """What is left of each limit, as far as this process knows it already, and what the limits are."""
        key, deployment = exchange.key, exchange.deployment
        if key is None:
            return []
        return self.leases.known(key, "" if deployment is None else deployment.name).rate.headers(clock.at(now))


def protocol_of(exchange: Exchange) -> WireProtocol:
    """The protocol that an exchange is in, by its route or else by its path."""
    found = exchange.found
    return found.route.protocol if found is not None else routes.protocol_of(exchange.request.head.path)


def refused(refusal: Refusal, protocol: WireProtocol, more: Iterable[tuple[bytes, bytes]] = ()) -> Answer:
    """A refusal as its protocol writes it."""
    body, content_type = protocol.render_error(refusal)
    headers = [(name.lower().encode(), value.encode()) for name, value in problems.headers(refusal).items()]
    return Answer(refusal.status, body, [(b"content-type", content_type), *headers, *more])


def _tally_of(answered: list[Work]) -> Tally | None:
    """The tally of a batch: that of the first of its requests that is somebody's."""
    for work in answered:
        if isinstance(work.receipt, Exchange):
            return work.receipt.tally
    return None


def _fail(works: list[Work], error: Exception) -> None:
    for work in works:
        work.error = work.error or error
