"""Answers as they come: a pipeline that can tell before it is through what it knows so far.

A stream takes no part in batches. It has a thread of its own, of which there are few, and no tenant may have more than
half of them. It is admitted, billed and counted as any other request, once, at its end. What it knows is handed to the
loop at each step; a caller that leaves, or a deadline that passes, ends it at the next one.
"""

import asyncio
import logging
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import orjson

from inference.engines.base import BadRows
from inference.plane.exchange import Exchange
from inference.plane.settling import Settling
from inference.plane.versions import LoadedVersion
from inference.protocols.base import Call
from inference.work import Reply, Work
from modelhub import priority
from modelhub.recipes.learning import Streaming
from tenants.errors import OverQuota, Refusal, Unavailable

MOST = 8
MOST_OF_TENANT = MOST // 2
logger = logging.getLogger(__name__)


def can(version: LoadedVersion, call: Call) -> bool:
    """Whether a caller that takes events has them: one row, of a pipeline that answers as it goes."""
    return call.rows == 1 and isinstance(version.pipeline, Streaming)


class Streams:
    """The streams of this process. Only their steps run in threads."""

    def __init__(self, loop: asyncio.AbstractEventLoop, settling: Settling) -> None:
        self._loop = loop
        self._settling = settling
        self._threads = ThreadPoolExecutor(max_workers=MOST, thread_name_prefix="stream", initializer=priority.give_way)
        self._under_way: Counter[str] = Counter()
        self._works: set[Work] = set()

    def check(self, tenant_id: str) -> None:
        """Refuses one more stream of a tenant if there is no room for it."""
        own = self._under_way[tenant_id]
        if own >= MOST_OF_TENANT:
            raise OverQuota(f"{own} answers of yours are being streamed by this process.", retry_after=1)
        if self._under_way.total() >= MOST:
            raise Unavailable(f"{MOST} answers are being streamed by this process.", retry_after=1)

    def begin(self, exchange: Exchange, version: LoadedVersion, work: Work) -> None:
        """Runs work of one row, whose exchange hears of what is known so far."""
        version.queue.borrow()
        self._under_way[version.tenant_id] += 1
        self._works.add(work)
        self._threads.submit(self._run, exchange, version, work)

    def stop(self) -> None:
        """Ends all at their next step, and waits for that; not on the loop."""
        for work in list(self._works):
            work.error = work.error or Unavailable("The server is stopping.", retry_after=1)
        self._threads.shutdown()

    def _run(self, exchange: Exchange, version: LoadedVersion, work: Work) -> None:
        """In a thread: from the first step to the last."""
        began = time.perf_counter_ns()
        try:
            work.taken_at = time.monotonic()
            if not work.abandoned:
                work.taken = True
                self._step_through(exchange, version, work)
        except BadRows as bad:
            work.error = next(iter(bad.refusals.values()))
        except Exception as error:
            if not isinstance(error, Refusal):
                logger.exception("a stream of %s failed", version.entry.label)
            work.error = error
        work.compute_us = (time.perf_counter_ns() - began) // 1000
        version.give_back()
        self._loop.call_soon_threadsafe(self._end, exchange, version, work)

    def _step_through(self, exchange: Exchange, version: LoadedVersion, work: Work) -> None:
        """Until the answer is there, or nobody waits for it; who left in between has used what was done by then."""
        steps = version.stream(work)
        work.answer = Reply(b"")
        try:
            while not (exchange.left or work.abandoned or work.error):
                partial = next(steps)
                told = orjson.dumps(partial, option=orjson.OPT_SERIALIZE_NUMPY)
                self._loop.call_soon_threadsafe(_tell, exchange, told)
        except StopIteration as end:
            work.answer = work.render(end.value)
        finally:
            steps.close()

    def _end(self, exchange: Exchange, version: LoadedVersion, work: Work) -> None:
        """On the loop: what an engine has been at is billed, whether its caller is still there or not."""
        self._works.discard(work)
        self._under_way[version.tenant_id] -= 1
        self._under_way += Counter()  # forgets who has none
        self._settling.settle([work])


def _tell(exchange: Exchange, partial: bytes) -> None:
    if exchange.partial is not None and not exchange.done:
        exchange.partial(partial)
