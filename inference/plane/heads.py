"""The head of a request: all that comes before its body.

A client sends the same head with each of its requests, so what follows from a head alone is worked out once and kept
with it, and a head that came before is known by its bytes.
"""

import base64
import binascii
import hashlib
from functools import cached_property

from tenants.errors import Invalid, Unauthenticated

Headers = dict[bytes, bytes]
END = b"\r\n\r\n"
# Larger ones are read anew each time; of those that are known there are at most twice so many.
KNOWN_BYTES = 4096
KNOWN = 1024


class Head:
    """The request line and the headers, whose names are in lower case. `body_bytes` come after it."""

    def __init__(self, method: str, path: str, headers: Headers, body_bytes: int = 0) -> None:
        self.method = method
        self.path = path
        self.headers = headers
        self.body_bytes = body_bytes

    @cached_property
    def key_digest(self) -> bytes:
        """SHA-256 of the API key that it carries. Raises Unauthenticated if it has no place for one."""
        text = self.headers.get(b"x-api-key")
        if text is None:
            scheme, _, text = self.headers.get(b"authorization", b"").partition(b" ")
            match scheme.lower():
                case b"bearer":
                    pass
                case b"basic":
                    text = _password(text)
                case _:
                    raise Unauthenticated("Send an API key: 'Authorization: Bearer KEY' or 'X-API-Key: KEY'.")
        return hashlib.sha256(text.strip()).digest()

    @cached_property
    def timeout(self) -> float:
        """Seconds after which no answer is wanted (`X-Request-Timeout`), else infinite. Raises Invalid."""
        wanted = self.headers.get(b"x-request-timeout")
        if wanted is None:
            return float("inf")
        try:
            seconds = float(wanted)
        except ValueError:
            seconds = -1.0
        if not 0 < seconds < float("inf"):
            raise Invalid(f"X-Request-Timeout is {wanted.decode('latin-1')!r}; expected a number of seconds above 0.")
        return seconds

    @cached_property
    def content_type(self) -> str:
        """The media type of the body in lower case, without its parameters."""
        return self.headers.get(b"content-type", b"").partition(b";")[0].strip().lower().decode("latin-1")

    @cached_property
    def encoding(self) -> str:
        """The content encoding of the body in lower case."""
        return self.headers.get(b"content-encoding", b"").decode("latin-1").lower()

    @cached_property
    def is_read_quickly(self) -> bool:
        """Whether a body of any size is parsed in no time: a picture, or tensors behind a little JSON."""
        return self.content_type.startswith("image/") or b"inference-header-content-length" in self.headers


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


def _password(credentials: bytes) -> bytes:
    try:
        return base64.b64decode(credentials, validate=True).partition(b":")[2]
    except binascii.Error:
        return b""
