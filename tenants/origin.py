"""Where a verb comes from: the address and program of who asked, and the request; the audit trail keeps it."""

import getpass
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ADDRESS_LENGTH = 64
FORWARDED_LENGTH = 200
AGENT_LENGTH = 200


@dataclass(frozen=True, slots=True)
class Origin:
    """`forwarded_for` and `user_agent` are what the caller claims; `address` is where it is, our own proxies aside."""

    address: str = ""
    forwarded_for: str = ""
    user_agent: str = ""
    request_id: str = ""


_origin: ContextVar[Origin | None] = ContextVar("origin", default=None)


@contextmanager
def set_to(origin: Origin) -> Iterator[None]:
    """What is done in the block comes from there."""
    token = _origin.set(origin)
    try:
        yield
    finally:
        _origin.reset(token)


def current() -> Origin:
    """Where the verb at hand comes from: a request, or else the process itself (a command, a worker)."""
    return _origin.get() or of_process()


def of_request(*, address: str, forwarded_for: str, user_agent: str, request_id: str) -> Origin:
    """The origin that a request's head tells of, cut to what a row holds."""
    return Origin(
        address=_fit(address, ADDRESS_LENGTH),
        forwarded_for=_fit(forwarded_for, FORWARDED_LENGTH),
        user_agent=_fit(user_agent, AGENT_LENGTH),
        request_id=request_id,
    )


@cache
def of_process() -> Origin:
    """This process: its host, and its program with the login name it runs under. Arguments may be secret: left out."""
    program = Path(sys.argv[0]).name or "python"
    if program == "manage.py" and len(sys.argv) > 1:
        program += f" {sys.argv[1]}"
    return Origin(
        address=_fit(socket.gethostname(), ADDRESS_LENGTH), user_agent=_fit(f"{program} ({_login()})", AGENT_LENGTH)
    )


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "?"


def _fit(text: str, length: int) -> str:
    return "".join(character for character in text if character.isprintable())[:length]
