"""A thousand deployments of two hundred tenants on one server that has memory for a fifth of them."""

import asyncio
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from onnx import TensorProto, helper, numpy_helper, save

from tests.inference.conftest import slow
from tests.lines import lines
from tests.live import LiveSite, live_site
from tests.publishing import TINY, publish, publish_many

TENANTS, EACH = 200, 5
DEPLOYMENTS = TENANTS * EACH
REQUESTS, CONNECTIONS = 6000, 24
ZIPF = 1.1
# One request in so many comes with the key of another tenant.
FOREIGN = 25
TOKEN = "read-the-metrics"
# Two engine threads need about 130 kB for each ONNX file and 230 kB for each LiteRT file here.
BUDGET = 36_000_000
X = [0.5, 2.0, 3.0, 4.0]


@dataclass(frozen=True)
class Crowd:
    """The site, a key for each tenant by its number, and what each deployment makes of X, by its number."""

    site: LiveSite
    keys: list[str]
    answers: list[list[float]]
    ready_seconds: float

    def figures(self) -> dict[str, float]:
        """The metrics, after the second in which they are written anew."""
        time.sleep(1.2)
        text = httpx.get(f"{self.site.url}/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).text
        found = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        return {name.removeprefix("aiaas_"): float(value) for name, _, value in found}

    def settled(self) -> dict[str, float]:
        """The metrics, once nothing is loaded any more."""
        before, now = {"version_loads_total": -1.0}, self.figures()
        while before["version_loads_total"] != now["version_loads_total"]:
            before, now = now, self.figures()
        return now


def name_of(number: int) -> str:
    return f"model-{number}"


def adding(path: Path, number: int) -> list[float]:
    """An ONNX file that gives x + number."""
    more = numpy_helper.from_array(np.full(4, number, np.float32), "more")
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", 4]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Add", ["x", "more"], ["y"])], "adding", ends[:1], ends[1:], [more])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return [value + number for value in X]


def scaling(tiny: bytes) -> Callable[[Path, int], list[float]]:
    """What makes LiteRT files that give (1 + number) times what the tiny model gives: its last weights are scaled."""
    interpreter = Interpreter(model_content=tiny)
    interpreter.allocate_tensors()
    runner = interpreter.get_signature_runner()
    (plain,) = runner(x=np.array([X], np.float32)).values()
    tensors = [one["index"] for one in interpreter.get_tensor_details() if list(one["shape"]) == [3, 8]]
    weights = interpreter.get_tensor(tensors[0])
    assert tiny.count(weights.tobytes()) == 1

    def make(path: Path, number: int) -> list[float]:
        path.write_bytes(tiny.replace(weights.tobytes(), (weights * np.float32(1 + number)).tobytes()))
        return [float(value) * (1 + number) for value in plain[0]]

    return make


@pytest.fixture(scope="module")
def crowd_of_tenants(model_files: dict[str, Path]) -> Iterator[Crowd]:
    with tempfile.TemporaryDirectory() as var, live_site(Path(var), METRICS_TOKEN=TOKEN) as site:
        files, scaled = Path(var) / "given", scaling(model_files["tiny.tflite"].read_bytes())
        files.mkdir()
        wanted, answers = [], []
        for number in range(DEPLOYMENTS):
            engine, make, outputs = ("onnx", adding, 4) if number % 2 else ("litert", scaled, 3)
            path = files / f"{number}.{engine}"
            answers.append(make(path, number))
            wanted.append(
                {
                    "tenant": f"tenant-{number // EACH}", "name": name_of(number), "path": str(path), "engine": engine,
                    "inputs": ("x", (-1, 4)), "outputs": ("y", (-1, outputs)),
                }
            )  # fmt: skip
        keys = publish_many(site, wanted, listed=files / "wanted.json")
        started = time.monotonic()
        site.start_server(INFERENCE_MEMORY_BYTES=str(BUDGET), INFERENCE_THREADS="2")
        ready = time.monotonic() - started
        yield Crowd(site, [keys[f"tenant-{tenant}"] for tenant in range(TENANTS)], answers, ready)


def test_a_start_loads_what_fits_and_no_more(crowd_of_tenants: Crowd) -> None:
    found = crowd_of_tenants.settled()
    fitted = found["versions_in_memory"]
    assert DEPLOYMENTS * 0.1 < fitted < DEPLOYMENTS * 0.3
    assert found["versions_bytes"] <= BUDGET
    assert found["version_evictions_total"] == 0
    assert found["version_loads_total"] == fitted
    print(f"\n{DEPLOYMENTS} deployments: ready in {crowd_of_tenants.ready_seconds:.2f} s, {fitted:.0f} fit")


def test_every_answer_is_of_its_own_tenants_version(
    crowd_of_tenants: Crowd, record_property: Callable[[str, object], None]
) -> None:
    chance = random.Random(11)
    order = chance.sample(range(DEPLOYMENTS), DEPLOYMENTS)
    weights = [1 / (rank + 1) ** ZIPF for rank in range(DEPLOYMENTS)]
    drawn = iter(chance.choices(order, weights, k=REQUESTS))
    body = json.dumps({"instances": [X]}).encode()
    seconds: list[float] = []

    async def main() -> None:
        async with lines(crowd_of_tenants.site.port, CONNECTIONS) as found:

            async def ask_on(at: int) -> None:
                for number in drawn:
                    own = number // EACH
                    foreign = chance.randrange(FOREIGN) == 0
                    tenant = (own + chance.randrange(1, TENANTS)) % TENANTS if foreign else own
                    began = time.perf_counter()
                    found[at].send(f"/v1/models/{name_of(number)}:predict", body, key=crowd_of_tenants.keys[tenant])
                    status, answer = await found[at].read()
                    seconds.append(time.perf_counter() - began)
                    assert status == (404 if foreign else 200), answer
                    if not foreign:
                        assert json.loads(answer)["predictions"][0] == pytest.approx(crowd_of_tenants.answers[number])

            await asyncio.gather(*(ask_on(at) for at in range(CONNECTIONS)))

    before = crowd_of_tenants.settled()
    began = time.monotonic()
    asyncio.run(main())
    took = time.monotonic() - began
    after = crowd_of_tenants.figures()
    gained = {name: after[name] - before.get(name, 0.0) for name in after}
    asked = gained["version_hits_total"] + gained["version_waits_total"]
    assert len(seconds) == REQUESTS
    assert 0 < REQUESTS - asked < 3 * REQUESTS / FOREIGN  # the foreign ones ask for nothing that is there
    assert gained["version_load_failures_total"] == 0
    assert gained["version_evictions_total"] > 100
    assert after["versions_bytes"] <= BUDGET
    cuts = statistics.quantiles(seconds, n=100)
    report = {
        "requests a second": round(REQUESTS / took),
        "hit rate": round(gained["version_hits_total"] / asked, 3),
        "cold loads": gained["version_loads_total"],
        "cold load mean ms": round(1e3 * gained["version_load_seconds_sum"] / gained["version_load_seconds_count"], 1),
        "cold load p50 below ms": below(gained, 0.5),
        "cold load p99 below ms": below(gained, 0.99),
        "cold load max below ms": below(gained, 1.0),
        "request p50 ms": round(1e3 * cuts[49], 2),
        "request p99 ms": round(1e3 * cuts[98], 2),
        "request max ms": round(1e3 * max(seconds), 1),
        "in memory": after["versions_in_memory"],
    }
    for name, value in report.items():
        record_property(name, value)
    print("", *(f"{name}: {value}" for name, value in report.items()), sep="\n")


def below(gained: dict[str, float], share: float) -> float:
    """The end in milliseconds of the histogram's step in which this share of the loads is reached."""
    total = gained["version_load_seconds_count"]
    prefix = 'version_load_seconds_bucket{le="'
    steps = [(float(name[len(prefix) : -2]), count) for name, count in gained.items() if name.startswith(prefix)]
    return min(end for end, count in steps if count >= share * total) * 1e3


def test_a_cold_version_is_loaded_once_however_many_wait(crowd_of_tenants: Crowd) -> None:
    site, waiting = crowd_of_tenants.site, 50
    about = TINY | {"engine": "onnx", "outputs": ("y", (-1, 4))}
    before = crowd_of_tenants.settled()
    path = slow(site.var / "slow.onnx", answer=100.0)
    publish(site, tenant="tenant-0", model="cold", path=path, deployment="cold", **about)

    async def main() -> list[tuple[int, bytes]]:
        async with lines(site.port, waiting, key=crowd_of_tenants.keys[0]) as found:
            return await asyncio.gather(
                *(line.ask("/v1/models/cold:predict", [[at] * 4]) for at, line in enumerate(found))
            )

    answers = asyncio.run(main())
    after = crowd_of_tenants.figures()
    assert [(status, json.loads(body)["predictions"][0][0]) for status, body in answers] == [
        (200, 100.0 + at) for at in range(waiting)
    ]
    assert after["version_loads_total"] - before["version_loads_total"] == 1
    assert after["version_waits_total"] - before["version_waits_total"] > waiting / 2
