"""The head of a request: all that comes before its body.

A client sends the same head with each of its requests, so what follows from a head alone is worked out once and kept
with it, and a head that came before is known by its bytes.
"""

import base64
import binascii
import hashlib
from math import inf, nan

Headers = dict[bytes, bytes]
END = b"\r\n\r\n"
# Larger ones are read anew each time; of those that are known there are at most twice so many.
KNOWN_BYTES = 4096
KNOWN = 1024


class Head:
    """The request line and the headers, whose names are in lower case; `body_bytes` come after it.

    `key_digest` is the SHA-256 of the API key, none where there is no place for one. `timeout` is how many seconds the
    answer is waited for (`X-Request-Timeout`): infinite if it says nothing, NaN if it says no number above 0. The media
    type of the body is without its parameters, and like its `encoding` in lower case; a body that is `read_quickly`
    costs little to parse even if it is large: a picture, or tensors behind a little JSON. Those tensors are
    `seen_in_place` where they came, without a copy.
    """

    __slots__ = (
        "body_bytes", "content_type", "encoding", "headers", "key_digest", "method", "path", "read_quickly",
        "seen_in_place", "timeout",
    )  # fmt: skip

    def __init__(self, method: str, path: str, headers: Headers, body_bytes: int = 0) -> None:
        self.method = method
        self.path = path
        self.headers = headers
        self.body_bytes = body_bytes
        self.key_digest = _key_digest(headers)
        self.timeout = _timeout(headers)
        self.content_type = headers.get(b"content-type", b"").partition(b";")[0].strip().lower().decode("latin-1")
        self.encoding = headers.get(b"content-encoding", b"").decode("latin-1").lower()
        tensors = b"inference-header-content-length" in headers
        self.read_quickly = tensors or self.content_type.startswith("image/")
        self.seen_in_place = tensors and path.endswith("/infer") and not self.encoding


class KnownHeads:
    """The heads that came lately, by their bytes, which hold everything that a parser would find in them."""

    def __init__(self) -> None:
        self._new: dict[bytes, Head] = {}
        self._old: dict[bytes, Head] = {}

    def get(self, raw: bytes) -> Head | None:
        """The head of these bytes, if it came lately."""
        found = self._new.get(raw)
        if found is None and (found := self._old.get(raw)) is not None:
            self.put(raw, found)
        return found

    def put(self, raw: bytes, head: Head) -> None:
        """Keeps a head until some thousand others came."""
        if len(self._new) >= KNOWN:
            self._old, self._new = self._new, {}
        self._new[raw] = head


def _key_digest(headers: Headers) -> bytes | None:
    text = headers.get(b"x-api-key")
    if text is None:
        scheme, _, text = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() == b"basic":
            text = _password(text)
        elif scheme.lower() != b"bearer":
            return None
    return hashlib.sha256(text.strip()).digest()


def _timeout(headers: Headers) -> float:
    wanted = headers.get(b"x-request-timeout")
    if wanted is None:
        return inf
    try:
        seconds = float(wanted)
    except ValueError:
        return nan
    return seconds if 0 < seconds < inf else nan


def _password(credentials: bytes) -> bytes:
    try:
        return base64.b64decode(credentials, validate=True).partition(b":")[2]
    except binascii.Error:
        return b""
