"""Clients that write down which of their requests were acknowledged, whatever happens to the server."""

import contextlib
import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence

ROWS = 2
BODY = json.dumps({"instances": [[1, 2, 3, 4]] * ROWS}).encode()
PATH = "/v1/models/tiny:predict"


class Journal:
    """Callers of the deployment `tiny` over one or several servers; each goes on when its server is there again."""

    def __init__(self, ports: Sequence[int], key: str, *, callers: int = 8) -> None:
        self.acknowledged: list[str] = []
        self.statuses: Counter[int] = Counter()
        self.broken = 0
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._call, args=(ports[number % len(ports)],), daemon=True)
            for number in range(callers)
        ]

    @contextlib.contextmanager
    def running(self) -> Iterator["Journal"]:
        for thread in self._threads:
            thread.start()
        try:
            yield self
        finally:
            self._stopping.set()
            for thread in self._threads:
                thread.join(60)

    def wait_for(self, count: int, *, seconds: float = 60) -> None:
        """Until so many more requests were acknowledged."""
        wanted, deadline = len(self.acknowledged) + count, time.monotonic() + seconds
        while len(self.acknowledged) < wanted:
            assert time.monotonic() < deadline, f"{len(self.acknowledged)} of {wanted}: {self.statuses}, {self.broken}"
            time.sleep(0.02)

    def _call(self, port: int) -> None:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=40)) as connection:
            self._call_over(connection)

    def _call_over(self, connection: http.client.HTTPConnection) -> None:
        while not self._stopping.is_set():
            try:
                connection.request("POST", PATH, BODY, self._headers)
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException):
                connection.close()
                with self._lock:
                    self.broken += 1
                time.sleep(0.02)
                continue
            with self._lock:
                self.statuses[answer.status] += 1
                if answer.status == 200:
                    self.acknowledged.append(answer.headers["x-request-id"])
            if answer.status != 200:
                time.sleep(0.02)
