"""Server-sent events of what a job does, on the event loop: a stream holds no thread while it waits.

One task for the whole process reads, twice a second, the rows of all jobs that somebody follows. It also ends the
streams of keys that were revoked, and all of them when the server stops; a client then comes back by itself.
"""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import orjson
from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection
from django.db.models import Q
from django.utils import timezone

from inference.plane.event_sources import SOURCES, News, Seen, Source
from inference.plane.gate import Receive, Scope, Send
from tenants import scoping
from tenants.api import problems
from tenants.api.authentication import presented_key
from tenants.errors import Denied, MethodNotAllowed, NotFound, OverQuota, Refusal, Unauthenticated, Unavailable
from tenants.keys import addresses, api_keys
from tenants.models import ApiKey

SCOPE = "read"
LOOK_SECONDS = 0.5
HEARTBEAT_SECONDS = 10.0
# A client that takes nothing for so long has gone.
SEND_SECONDS = 30.0
RETRY_MS = 1000
HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]
logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Stream:
    """One client that follows one job."""

    key_id: str
    tenant_id: str
    source: Source
    seen: Seen
    over: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)


def takes(path: str) -> bool:
    """Whether a path is that of a stream of events."""
    return any(source.path.fullmatch(path) for source in SOURCES)


class Events:
    """The streams of this process, from `start` to `stop`; `stopping` says that the server is about to end."""

    def __init__(self) -> None:
        self.stopping: Callable[[], bool] = lambda: False
        self._streams: set[_Stream] = set()
        self._admitted: Counter[str] = Counter()
        self._looking: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="events")
        self._looking = asyncio.get_running_loop().create_task(self._look_again_and_again())

    async def stop(self) -> None:
        """Ends every stream."""
        if self._looking is not None:
            self._looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._looking
        self._end(self._streams)
        self._threads.shutdown()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        source, job_id = _named(scope["path"])
        try:
            if scope["method"] != "GET":
                raise MethodNotAllowed(f"{scope['method']} is not taken here; expected GET.")
            key, seen = await self._in_thread(_opened, headers, (scope.get("client") or ("",))[0], source, job_id)
            self._admit(key.tenant_id)
        except Refusal as refusal:
            await _refuse(refusal, send)
            return
        except (DatabaseError, InterfaceError):
            logger.exception("a stream of events could not be opened")
            await _refuse(Unavailable("The service has lost its database for a moment.", retry_after=2), send)
            return
        stream = _Stream(key.pk, key.tenant_id, source, seen)
        self._streams.add(stream)
        try:
            await self._follow(stream, headers.get("last-event-id", ""), receive, send)
        finally:
            self._streams.discard(stream)
            self._admitted[stream.tenant_id] -= 1
            self._admitted += Counter()  # forgets who has none

    def _admit(self, tenant_id: str) -> None:
        if self._admitted[tenant_id] >= settings.EVENT_STREAMS_PER_TENANT:
            raise OverQuota(f"{self._admitted[tenant_id]} streams of events of yours are open here.", retry_after=5)
        if self._admitted.total() >= settings.EVENT_STREAMS:
            raise Unavailable(f"{self._admitted.total()} streams of events are open on this server.", retry_after=5)
        self._admitted[tenant_id] += 1

    async def _follow(self, stream: _Stream, last_id: str, receive: Receive, send: Send) -> None:
        news = await self._news(stream.seen, last_id) if stream.seen.has_ended else None
        if news is not None and not news.events:
            # What makes a browser not come back again.
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        telling = asyncio.ensure_future(self._tell(stream, last_id, send))
        leaving = asyncio.ensure_future(left(receive))
        try:
            await asyncio.wait((telling, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (telling, leaving):
                task.cancel()
            results = await asyncio.gather(telling, leaving, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception) and not isinstance(result, TimeoutError):
                raise result

    async def _tell(self, stream: _Stream, last_id: str, send: Send) -> None:
        """An event for each change, until the job's end or the stream's; a comment where nothing happens for long."""
        await write(send, f"retry: {RETRY_MS}\n\n".encode())
        while True:
            seen = stream.seen
            while news := await self._news(seen, last_id):
                if news.events:
                    await write(send, b"".join(event.as_bytes() for event in news.events))
                    last_id = news.events[-1].id
                if not news.more:
                    break
            if seen.has_ended or stream.over:
                await send({"type": "http.response.body", "body": b""})
                return
            try:
                async with asyncio.timeout(HEARTBEAT_SECONDS):
                    await stream.changed.wait()
            except TimeoutError:
                await write(send, b": still there\n\n")
            stream.changed.clear()

    async def _look_again_and_again(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if self.stopping():
                self._end(self._streams)
            elif self._streams:
                await self._look()

    async def _look(self) -> None:
        streams = list(self._streams)
        try:
            seen, keys = await self._in_thread(
                _look, {(one.source, one.seen.job_id) for one in streams}, {one.key_id for one in streams}
            )
        except (DatabaseError, InterfaceError):
            logger.warning("the progress of jobs cannot be read; it is tried again", exc_info=True)
            return
        self._end(one for one in streams if one.key_id not in keys or one.seen.job_id not in seen)
        for one in streams:
            now = seen.get(one.seen.job_id, one.seen)
            if now != one.seen:
                one.seen = now
                one.changed.set()

    def _end(self, streams: Iterable[_Stream]) -> None:
        for stream in streams:
            stream.over = True
            stream.changed.set()

    async def _news(self, seen: Seen, last_id: str) -> News | None:
        """What is new; none if the database is away, whose client comes back by itself or is told at the next look."""
        try:
            found: News = await self._in_thread(seen.after, last_id)
        except (DatabaseError, InterfaceError):
            logger.warning("what is new of %s cannot be read; it is tried again", seen.job_id, exc_info=True)
            return None
        return found

    async def _in_thread(self, call: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, _closing_what_broke, call, *arguments)


def _named(path: str) -> tuple[Source, str]:
    """The source of a path that is taken, and the id that it names."""
    for source in SOURCES:
        if match := source.path.fullmatch(path):
            return source, match[1]
    raise NotFound("There is nothing at this address.")


def _opened(headers: dict[str, str], peer: str, source: Source, job_id: str) -> tuple[ApiKey, Seen]:
    """Who asks, and the job that is asked for; another tenant's is not there."""
    text = presented_key(headers.get("authorization", ""), headers.get("x-api-key", ""))
    if text is None:
        raise Unauthenticated("Send an API key: 'Authorization: Bearer KEY' or 'X-API-Key: KEY'.")
    sender = addresses.sender(peer, headers.get("x-forwarded-for", ""))
    with scoping.operator():
        key = api_keys.find(text=text, sender=sender, now=timezone.now())
    if SCOPE not in key.scopes:
        raise Denied(f"GET here needs the scope {SCOPE}; this key has {', '.join(sorted(key.scopes))}.")
    if "\0" in job_id or not job_id.isascii():
        raise NotFound("There is nothing at this address.")
    with scoping.tenant(key.tenant_id):
        return key, source.get(tenant_id=key.tenant_id, job_id=job_id)


def _look(jobs: set[tuple[Source, str]], key_ids: set[str]) -> tuple[dict[str, Seen], set[str]]:
    """The jobs as they are now, and which of these keys live."""
    seen: dict[str, Seen] = {}
    with scoping.operator():
        for source in {source for source, _ in jobs}:
            seen |= source.look({job_id for one, job_id in jobs if one is source})
        alive = Q(expires_at=None) | Q(expires_at__gt=timezone.now())
        keys = ApiKey.across_tenants.filter(alive, pk__in=key_ids, revoked_at=None, tenant__active=True)
        return seen, set(keys.values_list("pk", flat=True))


def _closing_what_broke(call: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return call(*arguments)
    except (DatabaseError, InterfaceError):
        connection.close()
        raise


async def write(send: Send, body: bytes) -> None:
    async with asyncio.timeout(SEND_SECONDS):
        await send({"type": "http.response.body", "body": body, "more_body": True})


async def left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _refuse(refusal: Refusal, send: Send) -> None:
    body = orjson.dumps(problems.body(refusal))
    found = problems.headers(refusal) | {"content-type": problems.CONTENT_TYPE, "content-length": str(len(body))}
    headers = [(name.lower().encode(), value.encode()) for name, value in found.items()]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
