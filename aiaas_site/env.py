"""The environment, read once: every setting of the site comes from here, and NAME_FILE names a file that holds NAME."""

import contextlib
import secrets
from pathlib import Path

import environ
from django.core.exceptions import ImproperlyConfigured
from environ.fileaware_mapping import FileAwareMapping

BASE_DIR = Path(__file__).resolve().parent.parent


class Environment(FileAwareMapping):  # type: ignore[misc]
    """The process's environment, where NAME_FILE may stand for NAME; the newline that editors add is not part of it."""

    def __getitem__(self, name: str) -> str:
        try:
            value: str = super().__getitem__(name)
        except (OSError, UnicodeDecodeError) as error:
            raise ImproperlyConfigured(
                f"{name}_FILE names {self.env[name + '_FILE']!r}, which cannot be read: {error}."
            ) from error
        return value.rstrip("\r\n") if f"{name}_FILE" in self.env else value


class Env(environ.Env):  # type: ignore[misc]
    ENVIRON = Environment()


env = Env()
env.prefix = ""

VAR_DIR = Path(env.str("VAR_DIR", default=str(BASE_DIR / "var"))).resolve()


def local_secret(name: str) -> str:
    """The secret kept in `var/NAME`, drawn at the first call: for a machine whose operator set none."""
    path = VAR_DIR / name
    if not path.exists():
        VAR_DIR.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{name}.{secrets.token_hex(4)}")
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_urlsafe(48))
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(draft)
        draft.unlink()
    return path.read_text()
