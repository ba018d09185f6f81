"""Runs a command that ends with its parent: `tether.py PARENT COMMAND…`, where the kernel is Linux.

A parent that is killed cannot stop its children; the kernel then sends them SIGTERM.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("The parent is gone already.")
    os.execv(command[0], command)  # noqa: S606


if __name__ == "__main__":
    main()
