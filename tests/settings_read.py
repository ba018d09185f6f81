"""Which names of the environment the project's code reads: what the documents may and must name."""

import re

from tests.live import ROOT

READ = re.compile(r"""\benv(?:\.\w+)?\(\s*"([A-Z_]+)"|os\.environ(?:\.get\(|\[)\s*"([A-Z_]+)\"""")
ROOMS = ("aiaas_site", "tenants", "modelhub", "inference")
# Set by the code for its own children, not by an operator.
INTERNAL = {"DJANGO_SETTINGS_MODULE", "TF_CPP_MIN_LOG_LEVEL"}


def settings_read() -> set[str]:
    """Every name that `env.…("NAME")` or `os.environ["NAME"]` reads."""
    found = {
        name
        for room in ROOMS
        for file in (ROOT / room).rglob("*.py")
        for names in READ.findall(file.read_text())
        for name in names
        if name
    }
    return found - INTERNAL
