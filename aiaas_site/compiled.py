"""The compiled part of a server: modules that `make compiled` translated to C, loaded in the place of their sources.

The sources are what counts, and what every other process runs. A server takes the compiled modules, all or none, if
they were made from the very sources that are there, by the same Python; `COMPILED=off` keeps it to the sources.
"""

import hashlib
import importlib.util
import json
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
# Beside the packages of the environment, whose Python they fit.
FOLDER = Path(sys.prefix) / "compiled"
MANIFEST = "manifest.json"
APPS = ("inference", "modelhub", "tenants")
# What a request passes on its way, and what those modules make for one another.
MODULES = (
    "inference.batching",
    "inference.engines.base",
    "inference.engines.litert",
    "inference.plane.app",
    "inference.plane.clock",
    "inference.plane.connection",
    "inference.plane.directory",
    "inference.plane.exchange",
    "inference.plane.gate",
    "inference.plane.heads",
    "inference.plane.leases",
    "inference.plane.prediction",
    "inference.plane.rate_limit",
    "inference.plane.routes",
    "inference.plane.routing",
    "inference.plane.settling",
    "inference.plane.spool",
    "inference.plane.statistics",
    "inference.plane.traffic",
    "inference.plane.versions",
    "inference.protocols.base",
    "inference.protocols.native",
    "inference.protocols.open_inference.forms",
    "inference.protocols.open_inference.given",
    "inference.protocols.open_inference.infer",
    "inference.protocols.open_inference.wanted",
    "inference.protocols.tensorflow_serving",
    "inference.queueing",
    "inference.scheduling",
    "inference.work",
    "modelhub.pictures",
    "modelhub.signatures",
    "tenants.ledger.usage_sums",
)


def source(module: str) -> Path:
    """Where a module's source is."""
    return ROOT / f"{module.replace('.', '/')}.py"


def digest() -> str:
    """What compiled modules depend on: what they are, the sources of the apps, and the Python that runs.

    Of what they import the compiler knows the types, so that counts, too.
    """
    found = hashlib.sha256(f"{sys.version} {sys.implementation.cache_tag} {MODULES}".encode())
    for path in sorted(path for app in APPS for path in (ROOT / app).rglob("*.py") if "migrations" not in path.parts):
        found.update(f"\n{path.relative_to(ROOT)} {hashlib.sha256(path.read_bytes()).hexdigest()}".encode())
    return found.hexdigest()


def digest_of_compiled() -> str:
    """The digest of what the compiled modules were made from; empty if there are none."""
    try:
        return str(_manifest()["digest"])
    except FileNotFoundError:
        return ""


def take() -> str:
    """Lets what is imported from now on come from the compiled modules; says what this process runs, for people."""
    if os.environ.get("COMPILED", "on").lower() in ("off", "0", "false", "no"):
        return "from its sources (COMPILED=off)"
    if any(isinstance(one, Finder) for one in sys.meta_path):
        return "compiled"
    of_compiled = digest_of_compiled()
    if not of_compiled:
        return "from its sources (`make compiled` makes it quicker)"
    if of_compiled != digest():
        return "from its sources, which are not those that were compiled (`make compiled` compiles them)"
    if early := [module for module in MODULES if module in sys.modules]:
        return f"from its sources (imported already: {', '.join(early)})"
    sys.meta_path.insert(0, Finder({name: FOLDER / file for name, file in _manifest()["files"].items()}))
    return "compiled"


def _manifest() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / MANIFEST).read_text())
    return found


class Finder(MetaPathFinder):
    """Finds the compiled modules by their names."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        self._files = files

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        file = self._files.get(fullname)
        return None if file is None else importlib.util.spec_from_file_location(fullname, file)
