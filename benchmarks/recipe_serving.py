"""A version of a recipe through HTTP, everything on: how long one caller waits, and how many answers 1 and 16 get.

    python -m benchmarks.recipe_serving FOLDER

FOLDER is what `benchmarks.recipe_translation` or `benchmarks.recipe_speech` left with `--folder FOLDER`: the version's
files, and the training's result. A translation is of ten words; the sounds are some of those that the training read.
The load generator runs on the same machine and takes its share of it. Writes `benchmarks/results/serving-RECIPE.json`.
"""

import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import soundfile

from benchmarks import load, ours
from modelhub.trainer.task import RESULT_FILE
from tests.live import LiveSite, live_site
from tests.publishing import make_key, publish

RESULTS = Path(__file__).parent / "results"
CONNECTIONS = (1, 16)
SECONDS = 15.0
WARM_UP = 3.0
# Ten words, as the latency is promised for.
SENTENCES = (
    "I would like to know when the next train leaves.",
    "My brother has been living in this city for years.",
    "She told me that she could not come with us.",
    "We have to finish all of this work before tomorrow.",
)
SOUNDS = 20
WANTED_MS, WANTED_TIMES, WANTED_REAL_TIME = 60.0, 4.0, 0.05


@dataclass(frozen=True, slots=True)
class Asked:
    """What is sent: bodies of one type; and how many seconds of sound one has on average, if it is sound."""

    bodies: list[bytes]
    content_type: str
    seconds: float | None = None


def translations() -> Asked:
    return Asked([text.encode() for text in SENTENCES], "text/plain")


def sounds(folder: Path) -> Asked:
    """Recordings that the training kept for validation."""
    paths = json.loads((folder / "validation.json").read_text())
    some = [Path(path) for path in paths[:: max(1, len(paths) // SOUNDS)]][:SOUNDS]
    lengths = [soundfile.info(path).duration for path in some]
    return Asked([path.read_bytes() for path in some], "audio/wav", sum(lengths) / len(lengths))


def measured(folder: Path, result: Mapping[str, Any], asked: Asked) -> list[dict[str, Any]]:
    """A row for each number of connections."""
    with tempfile.TemporaryDirectory() as var, live_site(Path(var)) as site:
        key = _opened(site, folder, result)
        prepared = [
            load.request("/api/v1/deployments/asked/predict", key, body, asked.content_type) for body in asked.bodies
        ]
        print(_answered(site, key, asked))
        rows = []
        for connections in CONNECTIONS:
            found = load.run(site.port, prepared, connections=connections, seconds=SECONDS, warm_up=WARM_UP)
            rows.append(_row(found, asked))
            print(" ".join(f"{name} {value}" for name, value in rows[-1].items()), flush=True)
    return rows


def _opened(site: LiveSite, folder: Path, result: Mapping[str, Any]) -> str:
    """The server with the version deployed as `asked`; gives the key."""
    site.manage("create_tenant", "bench")
    ours.lift_limits(site)
    serving = dict(result["serving"])
    publish(
        site,
        tenant="bench",
        model="asked",
        path=folder / serving["file"],
        deployment="asked",
        more_files=[folder / name for name in result["files"]],
        recipe=result["recipe"],
        inputs=_tensors(result["signature"]["inputs"]),
        outputs=_tensors(result["signature"]["outputs"]),
        preprocessing=result["preprocessing"],
        labels=result["labels"],
        decision=result["decision"],
        engine=serving.pop("engine"),
        serving=serving,
    )
    key = make_key(site, "bench")
    ours.start(site)
    return key


def _answered(site: LiveSite, key: str, asked: Asked) -> str:
    """The first answer, after the cold load."""
    headers = {"Authorization": f"Bearer {key}", "Content-Type": asked.content_type}
    answer = httpx.post(
        f"{site.url}/api/v1/deployments/asked/predict", content=asked.bodies[0], headers=headers, timeout=60
    )
    answer.raise_for_status()
    return answer.text


def _tensors(given: list[dict[str, Any]]) -> list[tuple[str, str, tuple[int, ...]]]:
    return [(one["name"], one["dtype"], tuple(one["shape"])) for one in given]


def _row(found: load.Load, asked: Asked) -> dict[str, Any]:
    row = {
        "connections": found.connections,
        "per_second": round(found.per_second, 1),
        "p50_ms": round(found.p50_ms, 2),
        "p99_ms": round(found.p99_ms, 2),
        "errors": found.errors,
    }
    if asked.seconds is not None:
        row["real_time_factor"] = round(found.connections / found.per_second / asked.seconds, 4)
    return row


def _judged(rows: list[dict[str, Any]], asked: Asked) -> list[str]:
    """What was wanted, and whether it was reached."""
    alone, many = rows
    times = many["per_second"] / alone["per_second"]
    if asked.seconds is not None:
        factor = alone["real_time_factor"]
        said = f"real-time factor {factor}, {WANTED_REAL_TIME} wanted"
        return [f"{said}: {_word(factor <= WANTED_REAL_TIME)}", f"16 connections: {times:.1f} times one"]
    return [
        f"p50 {alone['p50_ms']} ms, {WANTED_MS:g} wanted: {_word(alone['p50_ms'] <= WANTED_MS)}",
        f"16 connections: {times:.1f} times one, {WANTED_TIMES:g} wanted: {_word(times >= WANTED_TIMES)}",
    ]


def _word(reached: bool) -> str:
    return "reached" if reached else "MISSED"


def main(folder: Path) -> None:
    result = json.loads((folder / RESULT_FILE).read_text())
    asked = translations() if result["recipe"] == "translator" else sounds(folder)
    rows = measured(folder, result, asked)
    print("\n".join(_judged(rows, asked)))
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"serving-{result['recipe']}.json"
    path.write_text(json.dumps(rows, indent=1))
    print(f"written to {RESULTS.name}/{path.name}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
