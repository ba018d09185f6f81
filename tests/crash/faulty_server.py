"""Our server with a fault that no test can have of the machine it runs on; the rest of it is as it is.

FAULTY_FSYNC=FILE: once the file is there, every sync fails with EIO.
FAULTY_CLOCK=FILE: the wall clock is off by as many seconds as the file says, read at every look.
"""

import errno
import os
import time
from pathlib import Path


def fail_syncs(when: Path) -> None:
    def failing(real: object) -> object:
        def sync(file: int) -> None:
            if when.exists():
                raise OSError(errno.EIO, "Input/output error")
            real(file)  # type: ignore[operator]

        return sync

    os.fsync, os.fdatasync = failing(os.fsync), failing(os.fdatasync)  # type: ignore[assignment]


def set_clock(file: Path) -> None:
    real, real_ns = time.time, time.time_ns
    time.time = lambda: real() + float(file.read_text())
    time.time_ns = lambda: real_ns() + int(float(file.read_text()) * 1e9)


if __name__ == "__main__":
    if fsync := os.environ.get("FAULTY_FSYNC"):
        fail_syncs(Path(fsync))
    if clock := os.environ.get("FAULTY_CLOCK"):
        set_clock(Path(clock))
    from aiaas_site.server import main

    main()
