"""A real site for tests: its own database, its own var folder, real server and trainer processes on loopback."""

import contextlib
import functools
import hashlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import psycopg2

from aiaas_site import embedded_database

ROOT = Path(__file__).resolve().parent.parent


class LiveSite:
    """One installation. Start its processes as needed; `close` ends them all."""

    def __init__(self, var: Path, *, server: Any = None, socket_dir: str = "", **settings: str) -> None:
        """On the tests' embedded PostgreSQL, or on a server of the test's own, perhaps by way of another socket."""
        self.var = var
        self.server = server or embedded_database.ensure_started_server()
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.database = f"live_{secrets.token_hex(6)}"
        template = f"migrated_{_migrations_digest()}"
        migrated = self._has_database(template)
        self.superuser("CREATE DATABASE {} OWNER aiaas TEMPLATE " + (template if migrated else "template1"))
        host = quote(socket_dir or str(self.server.get_postmaster_info().socket_dir), safe="")
        self.env = os.environ | {
            "DATABASE_URL": f"postgres://{embedded_database.ROLE}@{host}/{self.database}",
            "VAR_DIR": str(var),
            "DJANGO_SETTINGS_MODULE": "aiaas_site.settings",
            **settings,
        }
        self.processes: list[subprocess.Popen[bytes]] = []
        if not migrated:
            self.manage("migrate", "--verbosity=0")
            self._keep_as(template)

    def superuser(self, statement: str) -> None:
        """Runs a statement as the database's superuser; `{}` in it is the name of this site's database."""
        connection = psycopg2.connect(self.server.get_uri())
        connection.autocommit = True
        with contextlib.closing(connection), connection.cursor() as cursor:
            cursor.execute(statement.format(self.database))

    def _has_database(self, name: str) -> bool:
        with contextlib.closing(psycopg2.connect(self.server.get_uri())) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name])
            return cursor.fetchone() is not None

    def _keep_as(self, template: str) -> None:
        """Keeps a copy of the database as it is, which sites after this begin with: migrating takes seconds."""
        # Another process may be as quick.
        with contextlib.suppress(psycopg2.errors.DuplicateDatabase, psycopg2.errors.UniqueViolation):
            self.superuser(f"CREATE DATABASE {template} OWNER aiaas TEMPLATE {{}}")

    def manage(self, *command: str) -> str:
        """Runs a management command and gives what it printed."""
        done = subprocess.run(
            [sys.executable, "manage.py", *command], cwd=ROOT, env=self.env, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def python(self, code: str) -> Any:
        """Runs code in a Django shell of the site; what it prints last is read as JSON."""
        return json.loads(self.manage("shell", "--no-imports", "-c", code).strip().splitlines()[-1])

    def spawn(self, *command: str, **env: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen([sys.executable, *command], cwd=ROOT, env=self.env | env)
        self.processes.append(process)
        return process

    def start_server(
        self,
        *,
        port: int | None = None,
        processes: int = 1,
        role: str = "all",
        module: str = "aiaas_site.server",
        **env: str,
    ) -> subprocess.Popen[bytes]:
        more = ("--processes", str(processes), "--role", role)
        process = self.spawn("-m", module, "--port", str(port or self.port), *more, **env)
        self.wait_until_ready(process, f"http://127.0.0.1:{port or self.port}")
        return process

    def wait_until_ready(self, process: subprocess.Popen[bytes], url: str, seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            assert process.poll() is None, "the server ended"
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{url}/healthz").status_code == 200:
                    return
            time.sleep(0.05)
        raise AssertionError("the server was not ready in time")

    def start_trainer(self, **env: str) -> subprocess.Popen[bytes]:
        return self.spawn("manage.py", "trainer", **env)

    def start_batch_worker(self, **env: str) -> subprocess.Popen[bytes]:
        return self.spawn("manage.py", "batch_worker", **env)

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()
        self.superuser("DROP DATABASE {} WITH (FORCE)")


@functools.cache
def _migrations_digest() -> str:
    """Twelve digits that are others when any migration is."""
    found = hashlib.sha256()
    for path in sorted(ROOT.glob("*/migrations/*.py")):
        found.update(path.name.encode() + path.read_bytes())
    return found.hexdigest()[:12]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def live_site(var: Path, **settings: str) -> Iterator[LiveSite]:
    site = LiveSite(var, **settings)
    try:
        yield site
    finally:
        site.close()
