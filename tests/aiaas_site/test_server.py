"""The server's process: what it asks of the system."""

import itertools
import os
import resource
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from aiaas_site import server
from tests.live import ROOT, live_site


def test_a_server_takes_as_many_open_files_as_it_may() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
        server._allow_open_files()
        allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        assert most == before[1]
        assert allowed == (server.OPEN_FILES if most == resource.RLIM_INFINITY else min(most, server.OPEN_FILES))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_process_that_shares_a_port_is_dealt_nothing_before_it_is_ready() -> None:
    with server._shared_listener("127.0.0.1", 0) as early:
        port = early.getsockname()[1]
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=10)
        with server._shared_listener("127.0.0.1", port) as ready:
            ready.listen()
            for _ in range(50):
                socket.create_connection(("127.0.0.1", port), timeout=10).close()
                ready.accept()[0].close()


def test_several_processes_say_that_another_program_has_their_port() -> None:
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "aiaas_site.server", "--port", str(port), "--processes", "2"],
            cwd=ROOT, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, f"Port {port} of 127.0.0.1 cannot be had: Address already in use.\n")


def staying(pid: int) -> list[int]:
    """The processors on which threads of a process stay."""
    found = [os.sched_getaffinity(thread.id) for thread in psutil.Process(pid).threads()]
    return sorted(min(allowed) for allowed in found if len(allowed) == 1)


@pytest.mark.skipif(
    sys.platform != "linux" or len(os.sched_getaffinity(0)) % 2 == 1,
    reason="each of two processes has half the processors",
)
def test_threads_of_two_processes_that_compute_in_idle_time_are_spread_over_all_processors(tmp_path: Path) -> None:
    allowed = sorted(os.sched_getaffinity(0))
    with live_site(tmp_path) as site:
        threads = str(len(allowed) // 2)
        process = site.start_server(processes=2, INFERENCE_THREADS=threads)
        deadline = time.monotonic() + 30
        while True:
            found = [staying(child.pid) for child in psutil.Process(process.pid).children()]
            if sorted(itertools.chain(*found)) == allowed:
                break
            assert time.monotonic() < deadline, found
            time.sleep(0.1)
    assert len(found) == 2
