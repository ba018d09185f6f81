"""Files at rest: encrypted a chunk at a time with a key of their own, which a tenant's data key gives.

A file is a header (magic, salt) and chunks of AES-256-GCM. Its key is HKDF-SHA256 of the data key and the salt; the
nonce of a chunk is its number and whether it is the last, so that none can be left out, moved or put elsewhere (the
construction STREAM: Hoang, Reyhanitabar, Rogaway, Vizár, 2015). What it is bound to (its tenant and sha256) is the
associated data. Files from before there were data keys have no header and are read as they are.
"""

import io
import secrets
from collections.abc import Callable
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

MAGIC = b"aiaas\x00e1"
SALT = 32
HEADER = len(MAGIC) + SALT
CHUNK = 256 * 1024
TAG = 16
KEY = 32
NONCE = 12


class Damaged(OSError):
    """A stored file is not what was written, or its tenant's key is not the one that it was written with."""


def encrypt(source: BinaryIO, target: BinaryIO, *, key: bytes, bound_to: str) -> None:
    """Copies what is left of the source, encrypted, in the memory of two chunks."""
    salt = secrets.token_bytes(SALT)
    cipher, name = _cipher(key, salt), bound_to.encode()
    target.write(MAGIC + salt)
    number, chunk = 0, _whole(source)
    while True:
        following = _whole(source)
        target.write(cipher.encrypt(_nonce(number, last=not following), chunk, name))
        if not following:
            return
        number, chunk = number + 1, following


def opened(source: BinaryIO, *, key: Callable[[], bytes | None], bound_to: str) -> BinaryIO:
    """The file's content, open for reading and seeking. Raises Damaged where it is read and is not what was written.

    `key` is asked only for a file that is encrypted; it gives none where the tenant's key is destroyed.
    """
    head = source.read(HEADER)
    if not head.startswith(MAGIC) or len(head) < HEADER:
        source.seek(0)
        return source
    found = key()
    if found is None:
        raise Damaged(f"the key of {bound_to} is destroyed: what it encrypted is gone")
    return io.BufferedReader(_Content(source, _cipher(found, head[len(MAGIC) :]), bound_to), CHUNK)


class _Content(io.RawIOBase):
    """The plain bytes of an encrypted file, with one chunk of them in memory."""

    def __init__(self, source: BinaryIO, cipher: AESGCM, bound_to: str) -> None:
        self._source, self._cipher, self._name = source, cipher, bound_to
        stored = source.seek(0, io.SEEK_END) - HEADER
        self._chunks = -(-stored // (CHUNK + TAG))
        self._length = stored - self._chunks * TAG
        if self._chunks < 1 or self._length < 0:
            raise Damaged(f"the stored file of {bound_to} was cut short")
        self._at = 0
        self._number = -1
        self._chunk = b""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._length}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        if self._at >= self._length:
            self._load(self._chunks - 1)  # that the file ends here is true only if its last chunk says so
            return 0
        number, start = divmod(self._at, CHUNK)
        self._load(number)
        piece = self._chunk[start : start + len(buffer)]
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)

    def close(self) -> None:
        self._source.close()
        super().close()

    def _load(self, number: int) -> None:
        if number == self._number:
            return
        self._source.seek(HEADER + number * (CHUNK + TAG))
        sealed = self._source.read(CHUNK + TAG)
        nonce = _nonce(number, last=number == self._chunks - 1)
        try:
            self._chunk = self._cipher.decrypt(nonce, sealed, self._name.encode())
        except InvalidTag as error:
            raise Damaged(f"the stored file of {self._name} is not what was written, from chunk {number} on") from error
        self._number = number


def wrap(key: bytes, *, master: bytes, bound_to: str) -> bytes:
    """A data key as it may lie in the database: encrypted by the master key."""
    nonce = secrets.token_bytes(NONCE)
    return nonce + AESGCM(master).encrypt(nonce, key, bound_to.encode())


def unwrap(wrapped: bytes, *, master: bytes, bound_to: str) -> bytes:
    """The data key; raises Damaged if it was wrapped by another master key or for another tenant."""
    try:
        return AESGCM(master).decrypt(wrapped[:NONCE], wrapped[NONCE:], bound_to.encode())
    except InvalidTag as error:
        raise Damaged(f"the data key of {bound_to} was not wrapped by this master key") from error


def _cipher(key: bytes, salt: bytes) -> AESGCM:
    return AESGCM(HKDF(algorithm=SHA256(), length=KEY, salt=salt, info=MAGIC).derive(key))


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(NONCE - 1) + bytes([last])


def _whole(source: BinaryIO) -> bytes:
    """The next chunk: short only at the end, whatever the source's reads give."""
    pieces, wanted = [], CHUNK
    while wanted and (piece := source.read(wanted)):
        pieces.append(piece)
        wanted -= len(piece)
    return b"".join(pieces)
