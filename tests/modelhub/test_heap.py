"""Large blocks of memory in large pages."""

import mmap
import os
from pathlib import Path

import numpy as np
import psutil
import pytest

from modelhub import heap

SIZE = 32 * 1024**2


def in_large_pages() -> int:
    """Bytes of this process that lie in large pages."""
    lines = Path("/proc/self/smaps").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("AnonHugePages:"))


def needs_large_pages() -> None:
    setting = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    release = tuple(int(part) for part in os.uname().release.split(".")[:2])
    if not setting.exists() or "[never]" in setting.read_text() or release < (6, 1):
        pytest.skip("this system has no large pages, or cannot be asked for them")


def test_what_is_large_and_filled_lies_in_large_pages_and_is_what_it_was() -> None:
    needs_large_pages()
    weights = np.random.default_rng(0).integers(0, 256, SIZE, dtype=np.uint8)
    before, copy = in_large_pages(), weights.copy()
    assert heap.into_large_pages() >= 2 * SIZE - 4 * heap.LARGE_BYTES
    assert in_large_pages() - before >= SIZE
    assert np.array_equal(weights, copy)


def test_what_is_hardly_filled_takes_no_more_memory() -> None:
    block = mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    block[: SIZE // 2] = b"x" * (SIZE // 2)
    before = psutil.Process().memory_info().rss
    heap.into_large_pages()
    assert psutil.Process().memory_info().rss - before < SIZE // 4
    block.close()


def test_the_large_blocks_are_the_nameless_ones_that_are_filled() -> None:
    def block(start: int, *, rss: int = 8192, more: str = "rw-p 00000000 00:00 0", size: int = 8192) -> str:
        return f"{start:x}-{start + size * 1024:x} {more}\nSize: {size} kB\nRss: {rss} kB\nVmFlags: rd wr\n"

    smaps = (
        block(0x10000000)
        + block(0x20000000, rss=4096)
        + block(0x30000000, more="rw-p 00000000 00:00 0 [heap]")
        + block(0x40000000, more="r--p 00000000 08:01 77 /lib/x.so")
        + block(0x50000000, size=1024)
        + block(0x60000000, rss=8000)
    )
    assert [start for start, _ in heap._large_blocks(smaps)] == [0x10000000, 0x60000000]


def test_without_linux_nothing_happens(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(heap, "_SMAPS", tmp_path / "smaps")
    assert heap.into_large_pages() == 0
