"""`make bench-ledger`: what the ledger costs and how fast it is, each part beside what was wanted of it.

Writes `benchmarks/results/ledger.json`; the exit status is 1 if a figure is not as wanted. `python -m benchmarks.ledger
PART…` runs some of the parts. A part is a function that takes a site of its own and gives its figures.
"""

import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import psutil

from benchmarks import closing, metering, month, operator_reports, shipping
from benchmarks.figures import Figure, show
from tests.live import LiveSite, live_site

RESULTS = Path(__file__).parent / "results"
PARTS: dict[str, tuple[str, Callable[[LiveSite], list[Figure]]]] = {
    "metering": ("What metering takes of the plane's throughput", metering.measure),
    "shipping": ("Events into the rollup", shipping.measure),
    "month": (f"A tenant with {month.SERIES:,} series in {month.HOURS} hours", month.measure),
    "reports": (f"The operator's reports over {operator_reports.TENANTS:,} tenants", operator_reports.measure),
    "closing": ("Closing", closing.part),
}


def main() -> int:
    names = sys.argv[1:] or list(PARTS)
    if unknown := sorted(set(names) - set(PARTS)):
        print(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}", file=sys.stderr)
        return 2
    found = {}
    for name in names:
        title, measure = PARTS[name]
        with tempfile.TemporaryDirectory() as var, live_site(Path(var)) as site:
            found[name] = measure(site)
        show(title, found[name])
    _write(found)
    return int(any(one.holds is False for figures in found.values() for one in figures))


def _write(found: dict[str, list[Figure]]) -> None:
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "ledger.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    load = psutil.getloadavg()[0]
    for name, figures in found.items():
        rows = [asdict(one) | {"holds": one.holds} for one in figures]
        known[name] = {"at": datetime.now(UTC).isoformat(), "load": load, "cpus": psutil.cpu_count(), "figures": rows}
    path.write_text(json.dumps(known, indent=1))
    print(f"\nwritten to {path.relative_to(Path.cwd())}")


if __name__ == "__main__":
    sys.exit(main())
