"""Compiles the modules of `aiaas_site.compiled` with mypyc: `python -m aiaas_site.compiling`, which is `make compiled`.

It takes a C compiler and Python's headers.
"""

import argparse
import contextlib
import io
import json
import os
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path

from aiaas_site import compiled

# What is not ours is taken as it comes, whatever its annotations say.
MYPY = ("--config-file=", "--follow-imports=silent", "--ignore-missing-imports")


def main() -> None:
    """Compiles everything anew, unless what is there is of the same sources."""
    parser = argparse.ArgumentParser(description="Compiles the prediction plane.")
    parser.add_argument("--if-possible", action="store_true", help="without a C compiler say so, and fail not")
    arguments = parser.parse_args()
    digest = compiled.digest()
    if compiled.digest_of_compiled() == digest:
        return
    if lacking := missing():
        print(f"The prediction plane is not compiled, and runs from its sources: {lacking}.", file=sys.stderr)  # noqa: T201
        sys.exit(0 if arguments.if_possible else 1)
    print("Compiling the prediction plane; this takes about a minute.", flush=True)  # noqa: T201
    # Beside its place, so that it comes there whole.
    with tempfile.TemporaryDirectory(prefix="compiling-", dir=compiled.FOLDER.parent) as scratch:
        made = Path(scratch) / "made"
        manifest = {"digest": digest, "files": _build(made, Path(scratch))}
        (made / compiled.MANIFEST).write_text(json.dumps(manifest, indent=1))
        shutil.rmtree(compiled.FOLDER, ignore_errors=True)
        made.rename(compiled.FOLDER)


def missing() -> str:
    """What of it is not on this machine, for people; nothing if all is."""
    compiler = (os.getenv("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    if not shutil.which(compiler):
        return "there is no C compiler (Debian and Ubuntu: apt install gcc libc6-dev)"
    header = Path(sysconfig.get_path("include")) / "Python.h"
    if not header.exists():
        return f"there is no {header} (Debian and Ubuntu: apt install python3-dev)"
    return ""


def _build(into: Path, scratch: Path) -> dict[str, str]:
    """Compiles the modules into a folder; gives each one's file there, and that of what they share."""
    from mypyc.build import mypycify
    from setuptools import Distribution

    os.chdir(compiled.ROOT)
    sources = [str(compiled.source(module).relative_to(compiled.ROOT)) for module in compiled.MODULES]
    options = [*MYPY, f"--cache-dir={scratch / 'cache'}"]
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            extensions = mypycify([*options, *sources], target_dir=str(scratch / "c"))
    except SystemExit:
        print(said.getvalue(), file=sys.stderr)  # noqa: T201
        raise
    distribution = Distribution({"ext_modules": extensions})
    command = distribution.get_command_obj("build_ext")
    command.build_lib, command.build_temp = str(into), str(scratch / "o")
    distribution.run_command("build_ext")
    return {_module(path.relative_to(into)): str(path.relative_to(into)) for path in sorted(into.rglob("*.so"))}


def _module(path: Path) -> str:
    return ".".join([*path.parts[:-1], path.name.partition(".")[0]])


if __name__ == "__main__":
    main()
