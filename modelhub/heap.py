"""The C library's heap: what has been freed can go back to the system, and what is large can lie in large pages."""

import contextlib
import ctypes
from collections.abc import Iterator
from pathlib import Path

LARGE_BYTES = 4 * 1024**2
# Of what is not filled so far, large pages would take memory that nobody has asked for.
FILLED = 0.9
MADV_COLLAPSE = 25  # Linux 6.1 and later
_SMAPS = Path("/proc/self/smaps")


def give_back() -> None:
    """Gives freed memory back, which takes the C library some milliseconds; where it cannot, nothing happens."""
    with contextlib.suppress(OSError, AttributeError):  # another C library has no malloc_trim
        ctypes.CDLL(None).malloc_trim(0)


def into_large_pages() -> int:
    """Puts the large blocks of this process into pages of 2 MB; gives the bytes of those that lie there now.

    A model's weights are read from end to end for each batch, and where so many small pages lie a processor cannot
    remember. Takes some milliseconds for 10 MB. Where Linux cannot do it, nothing happens.
    """
    try:
        advise = ctypes.CDLL(None).madvise
        blocks = list(_large_blocks(_SMAPS.read_text()))
    except (OSError, AttributeError):  # no Linux
        return 0
    advise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return sum(end - start for start, end in blocks if advise(start, end - start, MADV_COLLAPSE) == 0)


def _large_blocks(smaps: str) -> Iterator[tuple[int, int]]:
    """Where the nameless blocks begin and end that are large, and filled."""
    block: tuple[int, int] | None = None
    for line in smaps.splitlines():
        words = line.split()
        if not words[0].endswith(":"):  # ADDRESSES PERMISSIONS OFFSET DEVICE INODE [NAME]
            start, end = (int(address, 16) for address in words[0].split("-"))
            nameless = words[1] == "rw-p" and len(words) == 5
            block = (start, end) if nameless and end - start >= LARGE_BYTES else None
        elif words[0] == "Rss:" and block is not None and int(words[1]) * 1024 >= FILLED * (block[1] - block[0]):
            yield block
