"""A customer's side of the API: HTTP with a key, and nothing else."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

CHUNK = 128 * 1024
TIMEOUT_SECONDS = 60
# The answer to an upload comes when every picture in it has been decoded.
UPLOAD_TIMEOUT_SECONDS = 1800
Json = dict[str, Any]


class Refused(Exception):
    """The service answered with an error; the text is the service's own."""

    def __init__(self, text: str, *, status: int) -> None:
        super().__init__(text)
        self.status = status


class Customer:
    """A key at a site."""

    def __init__(self, *, url: str, key: str) -> None:
        self._http = httpx.Client(
            base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=TIMEOUT_SECONDS, trust_env=False
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def get(self, path: str, **query: str) -> Json:
        return self._answer(self._http.get(path, params=query))

    def find(self, path: str, **query: str) -> Json | None:
        """What is at the path, or none."""
        response = self._http.get(path, params=query)
        return None if response.status_code == 404 else self._answer(response)

    def post(self, path: str, **document: Any) -> Json:
        return self._answer(self._http.post(path, json=document))

    def patch(self, path: str, **document: Any) -> Json:
        return self._answer(self._http.patch(path, json=document))

    def post_bytes(self, path: str, data: bytes, content_type: str) -> Json:
        return self._answer(self._http.post(path, content=data, headers={"Content-Type": content_type}))

    def upload(self, path: str, file: Path, *, sent: Callable[[int], None]) -> Json:
        """PUTs a file in pieces; `sent` is told how many bytes have gone."""
        response = self._http.put(
            path,
            content=_pieces(file, sent),
            headers={"Content-Type": "application/zip", "Content-Length": str(file.stat().st_size)},
            timeout=UPLOAD_TIMEOUT_SECONDS,
        )
        return self._answer(response)

    def _answer(self, response: httpx.Response) -> Json:
        if response.is_success:
            found: Json = response.json()
            return found
        try:
            problem = response.json()
            said = f"{problem['title']}: {problem['detail']}"
        except (ValueError, KeyError, TypeError):
            said = response.text[:500]
        request = response.request
        text = f"{request.method} {request.url.path} was answered {response.status_code}. {said}"
        raise Refused(text, status=response.status_code)


def _pieces(file: Path, sent: Callable[[int], None]) -> Iterator[bytes]:
    gone = 0
    with file.open("rb") as source:
        while piece := source.read(CHUNK):
            yield piece
            gone += len(piece)
            sent(gone)
