"""The door: prediction paths to the plane, everything else to Django.

`door(role)` makes the application of a server that serves both planes, or one alone, so that each can be scaled.
Django runs as WSGI in threads: on ASGI it serves a third of the requests, and reads a whole upload before its view.
"""

import asyncio
import gc
import hmac
import json
import logging
import os
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "aiaas_site.settings")

from aiaas_site.wsgi import application as django_application  # it sets Django up, so it comes first

# isort: split
from a2wsgi import WSGIMiddleware
from django.conf import settings
from django.core.checks import Tags, run_checks
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django.urls import get_resolver

from inference import access_log
from inference.plane import asgi as plane_asgi
from inference.plane import events, metrics
from inference.plane.app import Plane
from inference.plane.routes import takes
from tenants.api import problems
from tenants.errors import NotFound, Refusal, TooLarge, Unavailable
from tenants.keys import key_uses

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

UPLOAD_PATH = re.compile(r"/api/v1/datasets/[^/]+/content/?")
PART_PATH = re.compile(r"/api/v1/datasets/[^/]+/uploads/[^/]+/parts/[^/]+/?")
CONTROL_THREADS = 8
# In collections of what is middle-aged, of which Python makes one for each 7,000 objects that are made and kept.
FULL_COLLECTION_AFTER = 500
logger = logging.getLogger(__name__)


class Door:
    """One ASGI application over either plane or both."""

    def __init__(self, *, plane: Plane | None, control: Any | None) -> None:
        self.plane = plane
        self._control = control
        self._leaving = False
        self.events = events.Events()
        self._key_uses = key_uses.Writer()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            if self.plane is not None and takes(scope["path"]):
                await plane_asgi.serve(self.plane, scope, receive, send)
            elif scope["path"] == "/metrics" and self.plane is not None:
                await self._metrics(scope, send)
            elif scope["path"] == "/healthz":
                await self._health(send)
            elif self._control is not None and events.takes(scope["path"]):
                await self.events(scope, receive, send)
            elif self._control is not None:
                await self._to_django(scope, receive, send)
            else:
                await _refuse(
                    NotFound(f"This server answers predictions only; there is nothing at {scope['path']}."), send
                )
        elif scope["type"] == "lifespan":
            await self._live(receive, send)

    @property
    def leaving(self) -> bool:
        """Whether the server is about to stop: it answers, and says that it is not ready."""
        return self._leaving

    @leaving.setter
    def leaving(self, leaving: bool) -> None:
        self._leaving = leaving
        if self.plane is not None:
            self.plane.leaving = leaving

    async def _to_django(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self._control is not None
        declared = int(dict(scope["headers"]).get(b"content-length", b"0"))
        limit = _body_limit(scope["path"])
        if declared > limit:
            await _refuse(TooLarge(f"The body has {declared:,} bytes; the limit is {limit:,}."), send)
        else:
            # In WSGI X_Forwarded_For would pass for X-Forwarded-For, and proxies watch over the latter only.
            headers = [(name, value) for name, value in scope["headers"] if b"_" not in name]
            await self._control({**scope, "headers": headers}, receive, send)

    async def _metrics(self, scope: Scope, send: Send) -> None:
        """What Prometheus reads, for whoever has the token; without a token there is no such page."""
        sent = dict(scope["headers"]).get(b"authorization", b"")
        token = settings.METRICS_TOKEN.encode()
        if not token or not hmac.compare_digest(sent, b"Bearer " + token):
            await _refuse(NotFound("There is nothing at /metrics."), send)
            return
        text = await asyncio.to_thread(metrics.exposition, metrics.folder())
        await _answer(200, text, metrics.CONTENT_TYPE, {}, send)

    async def _health(self, send: Send) -> None:
        if self._leaving or (self.plane is not None and not self.plane.healthy()):
            await _refuse(
                Unavailable("The server is starting, stopping, or has lost its database.", retry_after=1), send
            )
        else:
            await _answer(200, b'{"status":"ok"}', "application/json", {}, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        """Starts and stops the plane with the server."""
        await receive()
        try:
            await asyncio.to_thread(_check_database)
            log = access_log.of_process()
            if self.plane is not None:
                await self.plane.start()
            self.events.start()
            self._key_uses.start()
            if self._control is not None:
                await asyncio.to_thread(_import_views)
            _keep_what_is_there()
        except ImproperlyConfigured as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        except Exception as error:
            logger.exception("the server could not start")
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.events.stop()
        await asyncio.to_thread(self._key_uses.stop)
        if self.plane is not None:
            await self.plane.stop()
        if log is not None:
            await asyncio.to_thread(log.close)
        await send({"type": "lifespan.shutdown.complete"})


def _keep_what_is_there() -> None:
    """Takes all that a server begins with out of the garbage collector's sight, and has it look at the rest seldom.

    Programs and their views, hundred thousands of objects, stay until the end. To look through them for garbage holds
    up every request for 30 ms and more, and a busy server would do it all the time. What thousands of connections hold
    takes 5 to 9 ms: requests leave no garbage behind, so that once in a few million objects is enough.
    """
    gc.collect()
    gc.freeze()
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, FULL_COLLECTION_AFTER)


def _import_views() -> None:
    """Now, rather than by the first request."""
    assert get_resolver().url_patterns


def _body_limit(path: str) -> int:
    if UPLOAD_PATH.fullmatch(path):
        return int(settings.DATASET_MAX_UPLOAD_BYTES)
    return int(settings.DATASET_MAX_PART_BYTES if PART_PATH.fullmatch(path) else settings.API_MAX_BODY_BYTES)


def _check_database() -> None:
    """Refuses to serve by a role that row-level security does not hold, or from tables without it."""
    try:
        serious = [found for found in run_checks(databases=["default"], tags=[Tags.database]) if found.is_serious()]
    finally:
        connection.close()
    if serious:
        raise ImproperlyConfigured("; ".join(f"{found.msg} {found.hint or ''}".strip() for found in serious))


async def _refuse(refusal: Refusal, send: Send) -> None:
    body = json.dumps(problems.body(refusal)).encode()
    await _answer(refusal.status, body, problems.CONTENT_TYPE, problems.headers(refusal), send)


async def _answer(status: int, body: bytes, content_type: str, headers: dict[str, str], send: Send) -> None:
    found = {"content-type": content_type, "content-length": str(len(body))} | headers
    raw = [(name.lower().encode(), value.encode()) for name, value in found.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


def _django() -> Any:
    return WSGIMiddleware(django_application, workers=CONTROL_THREADS)


def door(role: str) -> Door:
    """The application of a role: both planes in one process, or one of them alone."""
    return Door(plane=None if role == "web" else Plane(), control=None if role == "plane" else _django())
