"""A receiver of webhooks on loopback: it writes down what it gets, and answers as it is told."""

import contextlib
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import trustme

NAME = "hooks.acme.example"
AUTHORITY = trustme.CA()


@dataclass(frozen=True)
class Message:
    """One request that came in."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


@dataclass
class Answer:
    """What is answered: after a wait, with a body that may drip a part at a time."""

    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    wait: threading.Event | None = None
    drips: bool = False


class Receiver:
    """`answer(message)` says what each message is answered with."""

    def __init__(self, answer: Callable[[Message], Answer], *, tls: bool = False) -> None:
        self.messages: list[Message] = []
        self.answer = answer
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True
        self.port = self.server.server_port
        self.scheme = "http"
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            AUTHORITY.issue_cert(NAME).configure_cert(context)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
            self.scheme = "https"
        self._thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/hook"

    def wait_for(self, found: Callable[[], bool], *, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not found():
            assert time.monotonic() < deadline, f"not in time; came: {[message.id for message in self.messages]}"
            time.sleep(0.05)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                message = Message(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
                receiver.messages.append(message)
                with contextlib.suppress(OSError):
                    self._answer(receiver.answer(message))

            def _answer(self, answer: Answer) -> None:
                if answer.wait is not None:
                    answer.wait.wait(60)
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.body) + (10**9 if answer.drips else 0)))
                self.end_headers()
                self.wfile.write(answer.body)
                while answer.drips:
                    self.wfile.write(b".")
                    time.sleep(0.2)

            def log_message(self, *arguments: Any) -> None:
                pass

        return Handler


@contextlib.contextmanager
def receiving(
    answer: Callable[[Message], Answer] = lambda message: Answer(), *, tls: bool = False
) -> Iterator[Receiver]:
    receiver = Receiver(answer, tls=tls)
    try:
        yield receiver
    finally:
        receiver.close()
