"""Run by test_warm_path.py in a process of a live site: which queries do warm predictions make, and in which thread?

It drives the plane's ASGI application itself, with every query of the process written down, and prints them as JSON.
"""

import asyncio
import json
import sys
import threading
import time
from collections.abc import MutableMapping
from typing import Any

import django

django.setup()

from django.db.backends.utils import CursorWrapper

from inference.plane import asgi
from inference.plane.app import Plane

PREDICTIONS = 500
# A quota of a minute is asked for anew when the minute ends: predictions are recorded while this much of one is left.
SECONDS_LEFT = 15
queries: list[tuple[str, str]] = []
execute = CursorWrapper.execute


def recorded(self: CursorWrapper, sql: Any, params: Any = None) -> Any:
    queries.append((threading.current_thread().name, str(sql)[:80]))
    return execute(self, sql, params)


async def ask(plane: Plane, key: str) -> int:
    body = b'{"instances": [[1, 2, 3, 4]]}'
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/models/tiny:predict",
        "client": ("127.0.0.1", 1),
        "headers": [(b"x-api-key", key.encode()), (b"content-length", str(len(body)).encode())],
    }
    messages: list[MutableMapping[str, Any]] = []

    bodies = [body]

    async def receive() -> MutableMapping[str, Any]:
        if not bodies:
            await asyncio.Future()
        return {"type": "http.request", "body": bodies.pop()}

    async def send(message: MutableMapping[str, Any]) -> None:
        messages.append(message)

    await asgi.serve(plane, scope, receive, send)
    return int(messages[0]["status"])


async def early_in_a_minute() -> None:
    left = 60 - time.time() % 60
    if left < SECONDS_LEFT:
        await asyncio.sleep(left + 0.1)


async def main(key: str) -> None:
    plane = Plane()
    await plane.start()
    await early_in_a_minute()
    first = await ask(plane, key)
    await asyncio.sleep(0.5)  # the first request's lease is filled up in the background
    CursorWrapper.execute = recorded  # type: ignore[method-assign]
    statuses = [await ask(plane, key) for _ in range(PREDICTIONS)]
    await asyncio.sleep(1.5)  # the feed and the shipper, which may query, have their turn
    made = list(queries)
    await plane.stop()
    print(json.dumps({"first": first, "statuses": sorted(set(statuses)), "queries": made}))


asyncio.run(main(sys.argv[1]))
