"""Pages of the documents whose bash blocks a test runs: what stands after `# → ` must be in what was printed there."""

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.live import ROOT

BLOCK = re.compile(r"^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXPECTED = "# → "


def script_of(page: str) -> str:
    """All bash blocks of a page, one after the other."""
    return "".join(BLOCK.findall(page))


def expected_in(script: str) -> list[str]:
    """What the script says that it prints, piece by piece."""
    return [line.removeprefix(EXPECTED) for line in script.splitlines() if line.startswith(EXPECTED)]


def walk(script: str, *, folder: Path, env: Mapping[str, str], seconds: float) -> None:
    """Runs a script in a folder that looks like the project's, and holds each expected piece to its output."""
    numbered = re.sub(rf"^{EXPECTED}.*$", "echo; echo '--- next ---'", script, flags=re.MULTILINE)
    for name in (".venv", "manage.py", "docs", "aiaas_site", "tenants", "modelhub", "inference"):
        if not (folder / name).exists():
            (folder / name).symlink_to(ROOT / name)
    done = subprocess.run(
        ["bash", "-c", f"set -euo pipefail\n{numbered}"],
        cwd=folder, env=dict(env), capture_output=True, text=True, timeout=seconds,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    printed = done.stdout.split("--- next ---")
    for text, output in zip(expected_in(script), printed, strict=False):
        assert text in output, done.stdout
