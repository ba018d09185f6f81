"""TensorFlow's SavedModels, each in a process of its own: the plane never imports TensorFlow, and to let go of a model
is to end its process, which gives all of its memory back."""

import contextlib
import json
import os
import queue
import socket
import subprocess
import sys
import tempfile
import weakref
from pathlib import Path

import psutil

from inference.engines import frames
from inference.engines.base import EngineGone, Tensor, Tensors
from modelhub.signatures import Signature
from tenants.errors import Invalid

MODULE = "inference.engines.savedmodel_process"
ROOT = Path(__file__).resolve().parent.parent.parent
# TensorFlow's own start is a few seconds of it.
START_SECONDS = 120.0
RUN_SECONDS = 120.0
# All of the environment that the process gets: neither the database's address nor any secret.
INHERITED = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ")


class SavedModel:
    """A SavedModel in a zip. As many runs go on at the same time as the host has processors."""

    name = "savedmodel"
    per_thread = False

    def __init__(self, *, path: Path, signature: Signature, threads: int = 1) -> None:
        self.gone = False
        self._process, lines = _started(path, signature, threads)
        self._close = weakref.finalize(self, _end, self._process, lines)
        self._free: queue.SimpleQueue[socket.socket] = queue.SimpleQueue()
        try:
            for line in lines:
                line.settimeout(START_SECONDS)
                answer = frames.receive(line)
                if answer.error:
                    raise ValueError(answer.error)
                line.settimeout(RUN_SECONDS)
                self._free.put(line)
        except (OSError, EOFError) as error:
            self.close()
            raise EngineGone("TensorFlow's process ended at its start.", retry_after=5) from error
        except BaseException:
            self.close()
            raise
        self.outside_bytes = int(psutil.Process(self._process.pid).memory_info().rss)

    def run(self, inputs: Tensors) -> dict[str, Tensor]:
        line = self._free.get()
        try:
            if self.gone:
                raise EOFError
            frames.send(line, inputs)
            answer = frames.receive(line)
        except (OSError, EOFError) as error:
            self.gone = True
            self._close()
            raise EngineGone("The model's process ended; it is started again.", retry_after=5) from error
        finally:
            self._free.put(line)
        if answer.error:
            raise Invalid(answer.error) if answer.of_sender else RuntimeError(answer.error)
        return answer.tensors

    def close(self) -> None:
        self.gone = True
        self._close()


def _started(path: Path, signature: Signature, threads: int) -> tuple["subprocess.Popen[bytes]", list[socket.socket]]:
    """The process, and a line to it for each run that may go on at the same time."""
    pairs = [socket.socketpair() for _ in range(os.cpu_count() or 1)]
    theirs = [other.fileno() for _, other in pairs]
    names = {"inputs": [spec.name for spec in signature.inputs], "outputs": [spec.name for spec in signature.outputs]}
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", MODULE, str(path), str(threads), json.dumps(names), *map(str, theirs)],
            cwd=ROOT,
            env={name: os.environ[name] for name in INHERITED if name in os.environ}
            | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "TMPDIR": tempfile.gettempdir()},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=theirs,
            start_new_session=True,
        )
    finally:
        for _, other in pairs:
            other.close()
    return process, [own for own, _ in pairs]


def _end(process: "subprocess.Popen[bytes]", lines: list[socket.socket]) -> None:
    """Ends the process: it would end by itself when its lines close, but its memory is wanted now."""
    for line in lines:
        with contextlib.suppress(OSError):
            line.shutdown(socket.SHUT_RDWR)
        line.close()
    process.kill()
    process.wait()
