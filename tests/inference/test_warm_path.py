"""What the warm path must never do."""

import json
import subprocess
import sys

import pytest

from tests.inference.conftest import PlaneSite
from tests.live import ROOT

BACKGROUND = {"directory-feed", "shipper"}
# Statistics are brought every ten seconds, and who loads a version reads how it was measured.
NOW_AND_THEN = {"statistics", "load_0"}


@pytest.mark.parametrize("bounds", [(), ("--networks", "127.0.0.0/8,2001:db8::/32", "--deployments", "tiny")])
def test_a_warm_prediction_makes_no_query(plane: PlaneSite, bounds: tuple[str, ...]) -> None:
    made = plane.site.manage("create_api_key", "acme", "--name", "warm", "--scopes", "predict", "--json", *bounds)
    done = subprocess.run(
        [sys.executable, "-m", "tests.inference.warm_queries", json.loads(made)["key"]],
        cwd=ROOT, env=plane.site.env, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["first"], found["statuses"]) == (200, [200])
    queries = [thread for thread, _ in found["queries"] if thread not in NOW_AND_THEN]
    assert set(queries) == BACKGROUND  # the recorder works: these two do query
    assert len(queries) < 50


def test_the_plane_imports_no_tensorflow() -> None:
    code = "import sys, aiaas_site.asgi; sys.exit(any(name in sys.modules for name in ('tensorflow', 'keras')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
