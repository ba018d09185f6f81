"""Files at rest: what is read is what was written; what was changed, cut, moved or joined is not read at all."""

import io
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelhub.storage import ciphers
from modelhub.storage.ciphers import CHUNK, TAG, Damaged

KEY = bytes(range(32))
SIZES = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK + 7]


def sealed(content: bytes, *, key: bytes = KEY, bound_to: str = "ten_a/abc") -> bytes:
    target = io.BytesIO()
    ciphers.encrypt(io.BytesIO(content), target, key=key, bound_to=bound_to)
    return target.getvalue()


def read(stored: bytes, *, key: bytes | None = KEY, bound_to: str = "ten_a/abc") -> bytes:
    with ciphers.opened(io.BytesIO(stored), key=lambda: key, bound_to=bound_to) as content:
        return content.read()


@pytest.mark.parametrize("size", SIZES)
def test_what_was_written_is_read(size: int) -> None:
    content = os.urandom(size)
    stored = sealed(content)
    assert read(stored) == content
    assert content[:100] not in stored or size < 4
    assert sealed(content) != stored, "each file has a key of its own"


@settings(deadline=None, max_examples=60)
@given(size=st.sampled_from(SIZES), seeks=st.lists(st.tuples(st.integers(0, 4 * CHUNK), st.integers(0, CHUNK + 5))))
def test_it_is_read_from_anywhere(size: int, seeks: list[tuple[int, int]]) -> None:
    content = bytes(number * 7 % 251 for number in range(1000)) * (size // 1000 + 1)
    content = content[:size]
    with ciphers.opened(io.BytesIO(sealed(content)), key=lambda: KEY, bound_to="ten_a/abc") as opened:
        assert opened.seek(0, io.SEEK_END) == size
        for at, wanted in seeks:
            opened.seek(at)
            assert opened.read(wanted) == content[at : at + wanted]


@pytest.mark.parametrize("size", SIZES)
def test_what_was_changed_or_cut_is_not_read(size: int) -> None:
    stored = sealed(os.urandom(size))
    for at in {0 + len(ciphers.MAGIC), len(stored) // 2, len(stored) - 1}:
        changed = bytearray(stored)
        changed[at] ^= 1
        with pytest.raises(Damaged):
            read(bytes(changed))
    for cut in {1, TAG, CHUNK + TAG} & set(range(len(stored) - ciphers.HEADER)):
        with pytest.raises(Damaged):
            read(stored[:-cut])
    with pytest.raises(Damaged):
        read(stored + b"x")


def test_chunks_stay_in_their_order_and_in_their_file() -> None:
    one, other = sealed(b"a" * 3 * CHUNK), sealed(b"b" * 3 * CHUNK)
    whole, head = CHUNK + TAG, ciphers.HEADER
    swapped = one[:head] + one[head + whole : head + 2 * whole] + one[head : head + whole] + one[head + 2 * whole :]
    joined = one[: head + whole] + other[head + whole :]
    for stored in (swapped, joined):
        with pytest.raises(Damaged):
            read(stored)


def test_another_key_place_or_none_reads_nothing() -> None:
    stored = sealed(b"content")
    for wrong in ({"key": bytes(32)}, {"key": None}, {"bound_to": "ten_b/abc"}, {"bound_to": "ten_a/abd"}):
        with pytest.raises(Damaged):
            read(stored, **wrong)


@pytest.mark.parametrize("content", [b"", b"plain", ciphers.MAGIC[:-1], b"x" * 100_000])
def test_a_file_from_before_is_read_as_it_is(content: bytes) -> None:
    assert read(content, key=None) == content


def test_a_data_key_is_unwrapped_by_its_master_key_for_its_tenant_only() -> None:
    wrapped = ciphers.wrap(KEY, master=bytes(32), bound_to="ten_a")
    assert KEY not in wrapped
    assert ciphers.unwrap(wrapped, master=bytes(32), bound_to="ten_a") == KEY
    for wrong in ({"master": KEY, "bound_to": "ten_a"}, {"master": bytes(32), "bound_to": "ten_b"}):
        with pytest.raises(Damaged):
            ciphers.unwrap(wrapped, **wrong)  # type: ignore[arg-type]
