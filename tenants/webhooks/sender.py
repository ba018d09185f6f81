"""The webhook sender: a process that takes deliveries that are due, some at a time, and sends them.

Killed at any moment, it loses nothing: what it had at hand is due again when its lease is over, and is sent again with
the same webhook-id. Several senders share the queue.
"""

import logging
import random
import signal
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from django.db import InterfaceError, OperationalError, connection
from django.utils import timezone

from tenants import scoping
from tenants.webhooks import deliveries, sending
from tenants.webhooks.deliveries import Outcome, Parcel

THREADS = 12
SECONDS_BETWEEN_LOOKS = 0.5
SECONDS_TO_RETRY = 30.0

logger = logging.getLogger(__name__)

Connection = (OperationalError, InterfaceError)


class Sender:
    """One process of `threads` tries at once."""

    def __init__(self, threads: int = THREADS) -> None:
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="webhook")
        self._at_hand: set[Future[None]] = set()
        self._stopping = False

    def stop(self, *_: object) -> None:
        """From now on nothing is taken; what is at hand is sent to its end."""
        self._stopping = True

    def run_forever(self) -> None:
        """Until SIGTERM or SIGINT."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.stop)
        logger.info("the webhook sender waits for notices")
        while not self._stopping:
            try:
                busy = self.turn()
            except Connection:
                logger.warning("the webhook sender cannot reach the database", exc_info=True)
                connection.close()
                busy = False
            if not busy:
                self._rest()
        self.finish()
        logger.info("the webhook sender stops")

    def turn(self) -> bool:
        """Writes down new deliveries and takes up what is due, as far as threads are free; whether there was any."""
        with scoping.operator():
            busy = deliveries.dispatch(now=timezone.now()) > 0
        self._at_hand = {future for future in self._at_hand if not future.done()}
        while len(self._at_hand) < self._threads and not self._stopping:
            with scoping.operator():
                parcel = deliveries.claim(now=timezone.now())
            if parcel is None:
                return busy
            busy = True
            self._at_hand.add(self._pool.submit(carry_out, parcel))
        return busy and len(self._at_hand) < self._threads

    def finish(self) -> None:
        """Waits for what is at hand."""
        self._pool.shutdown(wait=True)

    def _rest(self) -> None:
        if self._at_hand:
            wait(self._at_hand, timeout=SECONDS_BETWEEN_LOOKS, return_when=FIRST_COMPLETED)
        else:
            time.sleep(SECONDS_BETWEEN_LOOKS)


def carry_out(parcel: Parcel) -> None:
    """Sends a parcel and writes down what came of it."""
    try:
        outcome = _outcome(parcel)
        logger.info("%s to %s: %s", parcel.notice.pk, parcel.endpoint.pk, outcome.error or outcome.status)
        _settle(parcel, outcome)
    except Exception:
        logger.exception("%s is tried again when its lease is over", parcel.delivery.pk)
    finally:
        connection.close_if_unusable_or_obsolete()


def _outcome(parcel: Parcel) -> Outcome:
    now = timezone.now()
    try:
        return sending.send(parcel, now=now)
    except Exception:
        logger.exception("%s: a fault of ours", parcel.delivery.pk)
        return Outcome(at=now, duration_ms=0, error="The try failed by a fault on our side.")


def _settle(parcel: Parcel, outcome: Outcome) -> None:
    """Waits out an outage of the database; when that lasts, the delivery is sent again after its lease."""
    until = time.monotonic() + SECONDS_TO_RETRY
    while True:
        try:
            with scoping.operator():
                deliveries.settle(parcel=parcel, outcome=outcome, now=timezone.now(), spread=random.random())
            return
        except Connection:
            connection.close()
            if time.monotonic() > until:
                raise
            time.sleep(SECONDS_BETWEEN_LOOKS)
