"""One peer's server for one model in one setting: started, waited for, and stopped with every process that it made."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import psutil

from benchmarks.peers import environments
from benchmarks.peers.catalogue import Peer, Sent, Setting
from tests.live import free_port

START_SECONDS = 60
STOP_SECONDS = 10
REST_SECONDS = 3
LOG_LINES = 3
ATTEMPTS = 3


class NotServing(Exception):
    """Says what the server said last."""


@contextlib.contextmanager
def running(peer: Peer, model: str, file: Path, setting: Setting, sent: Sequence[Sent]) -> Iterator[int]:
    """The port of a server that answers every kind of request. Raises NotServing."""
    python = environments.python(peer.lock)
    process, port = _started(peer, python, model, file, setting, sent)
    try:
        yield port
    finally:
        _stop(process)


def ask(port: int, sent: Sent) -> httpx.Response:
    """One request, as a client would send it."""
    headers = {"Content-Type": sent.content_type, **sent.headers}
    return httpx.post(f"http://127.0.0.1:{port}{sent.path}", content=sent.body, headers=headers, timeout=10)


def _started(
    peer: Peer, python: Path, model: str, file: Path, setting: Setting, sent: Sequence[Sent]
) -> tuple[subprocess.Popen[bytes], int]:
    """A server that answers and its port. On a busy machine some fail to start at times, so there are more attempts."""
    log = environments.FOLDER / f"{peer.name}.log"
    for left in reversed(range(ATTEMPTS)):
        port = free_port()
        with log.open("wb") as output:
            process = subprocess.Popen(
                [str(python), *(part.format(port=port) for part in peer.command)],
                env=_environment(python, model, file, port, setting),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            for one in sent:
                _wait(process, port, one, log)
            return process, port
        except BaseException as error:
            _stop(process)
            if not (left and isinstance(error, NotServing)):
                raise
    raise AssertionError("the last attempt returns or raises")


def _environment(python: Path, model: str, file: Path, port: int, setting: Setting) -> dict[str, str]:
    scratch = str(file.parent)
    asked = {"model": model, "file": file, "port": port, "other_port": free_port()} | {
        name: getattr(setting, name) for name in Setting.__slots__
    }
    return {
        **os.environ,
        **{f"PEER_{name.upper()}": str(value) for name, value in asked.items()},
        "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(Path.cwd()),
        "TMPDIR": scratch,
        "PYTRITON_HOME": scratch,
        "BENTOML_HOME": scratch,
        "BENTOML_DO_NOT_TRACK": "True",
        # One engine thread each; numpy's own would only stand in the way of the other process.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }


def _wait(process: subprocess.Popen[bytes], port: int, sent: Sent, log: Path) -> None:
    until, last = time.monotonic() + START_SECONDS, "no answer"
    while time.monotonic() < until:
        if process.poll() is not None:
            raise NotServing(f"ended with {process.returncode}: {_said(log)}")
        try:
            answer = ask(port, sent)
        except httpx.TransportError as error:
            last = repr(error)
        else:
            if answer.status_code == 200:
                return
            last = f"{answer.status_code} {answer.text[:200]}"
        time.sleep(0.1)
    raise NotServing(f"did not answer within {START_SECONDS} s ({last}): {_said(log)}")


def _said(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return " | ".join(lines[-LOG_LINES:])[-600:]


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Asks the server to end, then ends what is left of its group and of the processes that it started elsewhere."""
    tree: list[psutil.Process] = []
    with contextlib.suppress(psutil.NoSuchProcess):
        tree = psutil.Process(process.pid).children(recursive=True)
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
    # Some programs end before the server that they have asked to end.
    psutil.wait_procs(tree, timeout=REST_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for one in tree:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    process.wait()
    psutil.wait_procs(tree, timeout=STOP_SECONDS)
