"""The peers' virtual environments: each made from its lock, and made anew only when the lock has changed."""

import filecmp
import re
import shutil
import subprocess
import sys
from pathlib import Path

LOCKS = Path(__file__).parent / "locks"
FOLDER = Path("var/peers")
INSTALL_SECONDS = 900


class NotInstalled(Exception):
    """Says what the installer said last."""


def python(name: str) -> Path:
    """The Python of a peer's environment, which is installed first if need be. Raises NotInstalled."""
    lock, folder = LOCKS / f"{name}.lock", FOLDER / name
    installed = folder / lock.name
    if not (installed.exists() and filecmp.cmp(lock, installed, shallow=False)):
        print(f"{name}: installing into {folder} …", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        _run(sys.executable, "-m", "venv", str(folder))
        options = ("--disable-pip-version-check", "--quiet", "--require-hashes", "--no-deps")
        _run(str(folder / "bin" / "python"), "-m", "pip", "install", *options, "-r", str(lock))
        shutil.copy(lock, installed)
    return (folder / "bin" / "python").absolute()


def version(name: str, package: str) -> str:
    """The version of a package in a lock."""
    found = re.search(rf"^{re.escape(package)}==(\S+)", (LOCKS / f"{name}.lock").read_text(), re.MULTILINE)
    assert found is not None, f"{package} is not in {name}.lock"
    return found[1]


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=INSTALL_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise NotInstalled(f"not installed within {INSTALL_SECONDS} s") from error
    if done.returncode:
        said = [line for line in (done.stderr or done.stdout).strip().splitlines() if not line.startswith("WARNING")]
        raise NotInstalled(" ".join(said[-2:]) or f"{command[0]} ended with {done.returncode}")
