"""`make bench-peers`: ours beside other servers of models, in turns, in one run; theirs without any authentication.

Each peer is installed from its lock into `var/peers`, serves the same LiteRT files, is checked for right answers, tried
with two or three settings, and measured on every row with the one that did best there. A peer that cannot be installed,
does not start or answers wrongly is named with why, and the others go on. Writes `benchmarks/results/peers.json` (a row
for each server, work and number of connections) and `peers-notes.json` (versions, what is missing, the machine).
Takes about twenty minutes, the first time some more; names of peers as arguments measure only those.
"""

import json
import os
import platform
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

from benchmarks import bare, models, ours, payloads
from benchmarks.peers import answers, catalogue, environments, table
from benchmarks.peers.catalogue import Peer
from benchmarks.peers.programs.engine import Engine, scaled
from benchmarks.peers.turns import Beside, Turns
from tests.live import LiveSite, live_site
from tests.publishing import CNN

RESULTS = Path(__file__).parent.parent / "results"
OURS = {
    "tiny-json": answers.flat("predictions"),
    "cnn-jpeg": answers.flat("scores", CNN["labels"][1]),
    "cnn-tensor": answers.binary,
}


def main() -> int:
    """Measures the peers named, or all; the exit status is 2 for a name that there is not."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that every server is stopped on the way out
    picture = payloads.picture()
    every = catalogue.peers(picture)
    names = sys.argv[1:] or [peer.name for peer in every]
    if unknown := sorted(set(names) - {peer.name for peer in every}):
        print(f"no such peer: {', '.join(unknown)}; there are {', '.join(p.name for p in every)}", file=sys.stderr)
        return 2
    before = os.getloadavg()
    chosen = [peer for peer in every if peer.name in names]
    found, missing = _measured(chosen, picture)
    rows = table.rows(found)
    notes = _notes(chosen, missing, before)
    table.show(rows, [peer.name for peer in chosen], missing)
    RESULTS.mkdir(exist_ok=True)
    for name, content in (("peers.json", rows), ("peers-notes.json", notes)):
        (RESULTS / name).write_text(json.dumps(content, indent=1))
        print(f"written to {(RESULTS / name).relative_to(Path.cwd())}")
    return 0


def _measured(chosen: Sequence[Peer], picture: bytes) -> tuple[list[Beside], dict[str, str]]:
    """Everything that was measured beside each peer, and why there is nothing for the others."""
    found: list[Beside] = []
    missing: dict[str, str] = {}
    environments.FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as var:
        files = models.made(Path(var) / "models", "tiny.tflite", "cnn.int8.tflite")
        expected = _expected(files, picture)
        with live_site(Path(var)) as site:
            requests = ours.opened(site, files, picture)
            _check_ours(site, requests, expected)
            turns = Turns(files, expected, requests, site.port, bare.loops(files, picture))
            for peer in chosen:
                beside, reason = turns.take(peer)
                found += beside
                missing |= {peer.name: reason} if reason else {}
    return found, missing


def _expected(files: dict[str, Path], picture: bytes) -> dict[str, answers.Scores]:
    """What the engine alone gives for each request."""
    tiny, cnn = Engine(files["tiny.tflite"]), Engine(files["cnn.int8.tflite"])
    scores = {
        "tiny-json": tiny.run(np.array([payloads.TINY_ROW], np.float32)),
        "cnn-jpeg": cnn.run_pictures([picture]),
        "cnn-tensor": cnn.run(scaled([payloads.pixels()])),
    }
    return {work: [float(one) for one in found.ravel()] for work, found in scores.items()}


def _check_ours(site: LiveSite, requests: dict[str, bytes], expected: dict[str, answers.Scores]) -> None:
    """Our own answers are held to the same."""
    for work, request in requests.items():
        head, _, body = request.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        answer = httpx.post(f"{site.url}{first.split()[1]}", content=body, headers=headers, timeout=10)
        answers.check(answer, OURS[work], expected[work])


def _notes(chosen: Sequence[Peer], missing: dict[str, str], before: tuple[float, float, float]) -> dict[str, Any]:
    """What one must know beside the figures."""
    return {
        "peers": {
            peer.name: {
                "package": peer.package,
                "version": environments.version(peer.lock, peer.package),
                "settings_tried": {model: [str(one) for one in tried] for model, tried in peer.settings.items()},
            }
            for peer in chosen
        },
        "missing": missing,
        "machine": {
            "processors": psutil.cpu_count(),
            "python": platform.python_version(),
            "load_average_before": [round(one, 2) for one in before],
            "load_average_after": [round(one, 2) for one in os.getloadavg()],
        },
    }


if __name__ == "__main__":
    sys.exit(main())
