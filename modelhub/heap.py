"""The C library's heap: what has been freed, and can go back to the system."""

import contextlib
import ctypes


def give_back() -> None:
    """Gives freed memory back, which takes the C library some milliseconds; where it cannot, nothing happens."""
    with contextlib.suppress(OSError, AttributeError):  # another C library has no malloc_trim
        ctypes.CDLL(None).malloc_trim(0)
