"""Keep-alive connections to a server on loopback, which cost a test less than an HTTP client's do."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import NamedTuple


class Answered(NamedTuple):
    """An answer, its headers' names in lower case."""

    status: int
    body: bytes
    headers: dict[str, str]


class Line:
    """One keep-alive connection."""

    def __init__(self, port: int, key: str = "", *, timeout: float = 30) -> None:
        self._port = port
        self._key = key
        self._timeout = timeout

    async def open(self) -> "Line":
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    def send(self, path: str, body: bytes, *, key: str = "") -> None:
        self._writer.write(
            f"POST {path} HTTP/1.1\r\nHost: x\r\nX-API-Key: {key or self._key}\r\n"
            f"X-Request-Timeout: {self._timeout}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
        )

    async def read(self) -> tuple[int, bytes]:
        status, body, _ = await self.read_all()
        return status, body

    async def read_all(self) -> Answered:
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *rest = head.strip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (one.partition(": ") for one in rest)}
        body = await self._reader.readexactly(int(headers["content-length"]))
        return Answered(int(first.split()[1]), body, headers)

    async def ask(self, path: str, rows: list[list[float]], *, key: str = "") -> tuple[int, bytes]:
        self.send(path, json.dumps({"instances": rows}).encode(), key=key)
        return await self.read()

    def leave(self) -> None:
        self._writer.transport.abort()


@contextlib.asynccontextmanager
async def lines(port: int, count: int, *, key: str = "") -> AsyncIterator[list[Line]]:
    found = [await Line(port, key).open() for _ in range(count)]
    try:
        yield found
    finally:
        for line in found:
            line.leave()
        await asyncio.sleep(0.01)
