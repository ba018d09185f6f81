"""A child process under watch: what it says is read, what it may use is limited, and it never outlives the trainer."""

import contextlib
import ctypes
import json
import os
import re
import selectors
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

PARENT = "AIAAS_PARENT"
PR_SET_PDEATHSIG = 1
SECONDS_TO_END = 1.0
MAX_LINE = 64 * 1024
ROOT = Path(__file__).resolve().parent.parent.parent
# All of the environment that a child gets: neither the database's address nor any secret.
INHERITED = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES")
# Large pages for large tensors: a step takes a tenth less time (glibc 2.35 and later; elsewhere it means nothing).
FASTER = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
# What TensorFlow, absl and LiteRT say at every start.
CHATTER = re.compile(
    r"^([IWEF]\d{4} |[IWEF]0000 00:00:|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: [IWE] |"
    r"WARNING: All log messages before absl|"
    r"To enable the following instructions|INFO: Created TensorFlow Lite|INFO: Initialized TensorFlow Lite)"
)

Message = dict[str, Any]


def die_with_parent() -> None:
    """For a child at its start: the kernel kills it when the parent ends, however that ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(os.environ.get(PARENT, os.getppid())):
        os._exit(1)


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a child may live, and how much memory it and its children may hold that is theirs alone.

    `too_long` is what its customer is told when it lived too long, if there is more to say than that.
    """

    seconds: float
    memory_bytes: int
    what: str = "training"
    advice: str = " Fewer epochs or steps_per_epoch need less."
    memory_advice: str = ""
    too_long: str = ""


class Child:
    """A running module, told its folder and a pipe.

    Made and stopped in the main thread: the kernel ties its life to that.
    """

    def __init__(self, folder: Path, limits: Limits, *, module: str = "modelhub.trainer.child") -> None:
        self._limits = limits
        self._started = time.monotonic()
        self._ended: float | None = None
        self._told, tell = os.pipe()
        self._output, printed = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, str(folder), str(tell)],
            cwd=ROOT,
            env=_environment(folder),
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
            pass_fds=[tell],
            start_new_session=True,
        )
        self._selector = selectors.DefaultSelector()
        self._unread = {self._told: b"", self._output: b""}
        for descriptor in (tell, printed):
            os.close(descriptor)
        for descriptor in self._unread:
            os.set_blocking(descriptor, False)
            self._selector.register(descriptor, selectors.EVENT_READ)

    @property
    def seconds(self) -> float:
        """How long it has lived."""
        return (self._ended or time.monotonic()) - self._started

    @property
    def status(self) -> int | None:
        """Its exit status, negative for the signal that ended it; none while it runs."""
        status = self._process.poll()
        if status is not None and self._ended is None:
            self._ended = time.monotonic()
        return status

    def listen(self, seconds: float) -> list[Message]:
        """What it said, waiting at most this long for it to say something."""
        messages: list[Message] = []
        if not self._selector.get_map():
            time.sleep(seconds)
        for key, _ in self._selector.select(seconds) if self._selector.get_map() else ():
            messages += self._read(key.fd)
        return messages

    def rest(self) -> list[Message]:
        """What it had said when it ended."""
        messages: list[Message] = []
        while self._selector.get_map() and (heard := self._selector.select(0)):
            for key, _ in heard:
                messages += self._read(key.fd)
        return messages

    def over_limit(self) -> str:
        """Which limit it has passed, in words for the customer; empty if none."""
        if self.seconds > self._limits.seconds:
            return self._limits.too_long or (
                f"The {self._limits.what} was stopped after {self._limits.seconds:g} seconds, the longest that a job "
                f"may take.{self._limits.advice}"
            )
        if self._memory() > self._limits.memory_bytes:
            return (
                f"The {self._limits.what} ran out of memory: it needed more than the "
                f"{self._limits.memory_bytes / 1024**2:,.0f} MiB that a job may hold.{self._limits.memory_advice}"
            )
        return ""

    def stop(self) -> None:
        """Ends it and its children: asked first, killed after a second."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(SECONDS_TO_END)
        _ = self.status

    def close(self) -> None:
        """Ends what is left of it, and lets go of its pipes."""
        self.stop()
        self._selector.close()
        for descriptor in self._unread:
            os.close(descriptor)

    def _read(self, descriptor: int) -> list[Message]:
        try:
            data = os.read(descriptor, MAX_LINE)
        except BlockingIOError:
            return []
        if not data:
            self._selector.unregister(descriptor)
        *lines, rest = (self._unread[descriptor] + data).split(b"\n")
        self._unread[descriptor] = rest if len(rest) <= MAX_LINE else b""
        texts = [line.decode(errors="replace").rstrip() for line in lines]
        if descriptor == self._told:
            return [message for text in texts if (message := _parsed(text))]
        return [{"log": text} for text in texts if text and not CHATTER.match(text)]

    def _memory(self) -> int:
        """Bytes that it and its descendants hold alone: mapped files, which the kernel can drop, are not counted."""
        total = 0
        with contextlib.suppress(psutil.Error):
            child = psutil.Process(self._process.pid)
            for process in (child, *child.children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    memory = process.memory_info()
                    total += memory.rss - getattr(memory, "shared", 0)
        return total


def _environment(folder: Path) -> dict[str, str]:
    return {name: os.environ[name] for name in INHERITED if name in os.environ} | {
        PARENT: str(os.getpid()),
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "KERAS_BACKEND": "tensorflow",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "PYTHONUNBUFFERED": "1",
        **FASTER,
    }


def _parsed(text: str) -> Message | None:
    with contextlib.suppress(ValueError):
        message = json.loads(text)
        if isinstance(message, dict):
            return message
    return None
