"""`manage.py up`: serves everything in the foreground, stops once, leaves nothing behind."""

import json
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from aiaas_site import embedded_database
from tests.foreground import Foreground, gone, manage, until, var_folder

Start = Callable[..., Foreground]


@pytest.fixture(scope="module")
def var() -> Iterator[Path]:
    """One `var` folder for all of these, as on an operator's machine; each begins and ends with nothing running."""
    with var_folder() as folder:
        yield folder


@pytest.fixture
def start(var: Path) -> Iterator[Start]:
    started: list[Foreground] = []

    def begin(*words: str, **settings: str) -> Foreground:
        started.append(Foreground(var, "up", *(words or ("--port", "0")), **settings))
        return started[-1]

    yield begin
    for command in started:
        command.stop()


def serving(command: Foreground) -> list[psutil.Process]:
    """The processes of a site that answers."""
    assert command.url
    return command.family()


def test_it_serves_until_ctrl_c_and_leaves_nothing_behind(start: Start, var: Path) -> None:
    command = start()
    for path in ("/healthz", "/api/docs/", "/admin/login/", "/api/schema/"):
        assert httpx.get(command.url + path).status_code == 200, path
    family = serving(command)
    assert len(family) >= 4, "server, trainer, caretaker, PostgreSQL"
    assert command.stop(signal.SIGINT) == 0
    assert command.lines[-1] == "Stopped."
    assert "Traceback" not in command.output
    assert all(gone(process) for process in family)
    assert not (var / "postgres" / "postmaster.pid").exists()


def test_a_second_one_says_that_the_site_runs_already(start: Start, var: Path) -> None:
    command = start()
    url = command.url
    second = manage(var, "up", "--port", "0")
    assert second.returncode == 1
    assert f"running already at {url} (process {command.process.pid})" in second.stderr
    assert httpx.get(f"{url}/healthz").status_code == 200


def test_sigterm_stops_it_as_well(start: Start) -> None:
    command = start()
    family = serving(command)
    assert command.stop(signal.SIGTERM) == 0
    assert all(gone(process) for process in family)


def test_a_taken_port_is_named(var: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        refused = manage(var, "up", "--port", str(port))
    assert refused.returncode == 1
    assert f"Port {port} of 127.0.0.1 cannot be used: Address already in use" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("port", ["http", "-1", "65536", "8000.0"])
def test_a_port_that_is_none_is_refused(var: Path, port: str) -> None:
    refused = manage(var, "up", f"--port={port}")
    assert refused.returncode == 2
    assert f"{port!r} is no port" in refused.stderr


def test_a_server_that_dies_is_started_again(start: Start) -> None:
    command = start()
    url = command.url
    (server,) = [process for process in serving(command) if "aiaas_site.server" in process.cmdline()]
    server.kill()
    command.line("The server was ended by SIGKILL; starting it again in 1 s.")

    def answers() -> bool:
        try:
            return httpx.get(f"{url}/healthz").status_code == 200
        except httpx.TransportError:
            return False

    until(answers)


def test_a_server_that_cannot_start_ends_it_with_the_servers_words(start: Start, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    command = start(SPOOL_DIR=str(tmp_path / "file"))
    assert command.process.wait(60) == 1
    command.stop()
    assert "The server ended with status" in command.output
    assert str(tmp_path / "file") in command.output, "what the server said itself"


def test_a_setting_that_is_wrong_ends_it_before_anything_starts(start: Start) -> None:
    command = start(METERING_DURABILITY="sometimes")
    assert command.process.wait(60) == 1
    command.stop()
    assert "METERING_DURABILITY is 'sometimes'; expected process or disk" in command.output


def test_no_process_stays_behind_when_it_is_killed(start: Start) -> None:
    command = start()
    family = serving(command)
    command.process.kill()
    until(lambda: all(gone(process) for process in family), 40)


def test_it_starts_again_on_the_same_port_after_it_was_killed(start: Start, var: Path) -> None:
    first = start()
    port = first.url.rpartition(":")[2]
    first.process.kill()
    second = start("--port", port)
    assert httpx.get(f"{second.url}/healthz").status_code == 200
    assert second.stop() == 0
    assert not (var / "postgres" / "postmaster.pid").exists(), "PostgreSQL stops with its last living user"


def test_a_process_number_left_by_a_killed_process_counts_as_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with subprocess.Popen(["true"]) as brief:
        pass
    alive = psutil.Process().pid
    (tmp_path / ".handle_pids.json").write_text(json.dumps([brief.pid, alive]))
    (tmp_path / "postmaster.pid").write_text(f"{alive}\n{tmp_path}\n")
    monkeypatch.setattr(embedded_database, "FOLDER", tmp_path)
    embedded_database._forget_the_dead()
    assert json.loads((tmp_path / ".handle_pids.json").read_text()) == [alive]
    assert not (tmp_path / "postmaster.pid").exists(), "this process is no PostgreSQL"
