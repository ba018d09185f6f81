"""Loading goes on beside everything else: what is loaded already answers as before."""

import asyncio
import json
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from onnx import TensorProto, helper, numpy_helper, save

from inference.engines.base import Tensors
from inference.engines.litert import LiteRT
from modelhub.signatures import Signature, TensorSpec
from tests.inference.conftest import PlaneSite
from tests.lines import Line, lines
from tests.publishing import TINY, publish

SIZE = 7000
PART = 5
IMAGE = Signature((TensorSpec("image", "float32", (-1, 150, 150, 3)),), (TensorSpec("score", "float32", (-1, 1)),))
# The quietest of so many, because a busy host stands still by itself, too.
TIMES = 7


def large(path: Path) -> Path:
    """An ONNX file of about 200 MB that gives x: (rows, 4) to (rows, 4)."""
    constants = {
        "up": np.zeros((4, SIZE), np.float32),
        "weights": np.zeros((SIZE, SIZE), np.float32),
        "down": np.zeros((SIZE, 4), np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "up"], ["wide"]),
        helper.make_node("MatMul", ["wide", "weights"], ["work"]),
        helper.make_node("MatMul", ["work", "down"], ["nothing"]),
        helper.make_node("Add", ["x", "nothing"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", 4]) for name in ("x", "y")]
    stored = [numpy_helper.from_array(tensor, name) for name, tensor in constants.items()]
    graph = helper.make_graph(nodes, "large", ends[:1], ends[1:], stored)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def test_while_a_large_model_is_loaded_others_answer_as_before(plane: PlaneSite, tmp_path: Path) -> None:
    """Measured against the load itself: a loop that stood still for it would answer no sooner than it ends."""
    about = TINY | {"engine": "onnx", "outputs": ("y", (-1, 4))}
    publish(plane.site, tenant="acme", model="large", path=large(tmp_path / "large.onnx"), **about)
    seconds: list[float] = []

    async def ask_on(line: Line, done: asyncio.Event) -> None:
        while not done.is_set():
            began = time.perf_counter()
            status, body = await line.ask("/v1/models/identity:predict", [[1, 2, 3, 4]])
            seconds.append(time.perf_counter() - began)
            assert status == 200, body
            assert json.loads(body)["predictions"] == [[1, 2, 3, 4]]
            await asyncio.sleep(0.003)

    async def main() -> float:
        done = asyncio.Event()
        async with lines(plane.site.port, 2, key=plane.acme_key) as (line, cold):
            asking = asyncio.ensure_future(ask_on(line, done))
            began = time.perf_counter()
            status, body = await cold.ask("/v1/models/large:predict", [[1, 2, 3, 4]])
            took = time.perf_counter() - began
            done.set()
            await asking
        assert status == 200, body
        assert json.loads(body)["predictions"] == [[1, 2, 3, 4]]
        return took

    with plane.client() as client:
        made = client.post("/api/v1/deployments", json={"name": "large", "model": "large", "version": 1})
        assert made.status_code == 201, made.text
        took = asyncio.run(main())
        assert client.delete("/api/v1/deployments/large").status_code == 204
    p99 = statistics.quantiles(seconds, n=100)[98]
    print(f"\nloading took {took:.2f} s; {len(seconds)} answers meanwhile, p99 {p99 * 1e3:.1f} ms, "
          f"longest {max(seconds) * 1e3:.1f} ms")  # fmt: skip
    assert len(seconds) > 20
    assert p99 < took / PART


def longest_pause(work: Callable[[], object]) -> float:
    """Seconds: the longest that another thread stood still while the work was done; what it made is let go later."""
    done, pauses, ticking = threading.Event(), [0.0], threading.Event()

    def tick() -> None:
        last = time.perf_counter()
        while not done.is_set():
            time.sleep(0.0002)
            now = time.perf_counter()
            pauses.append(now - last)
            last = now
            ticking.set()

    thread = threading.Thread(target=tick)
    thread.start()
    ticking.wait()
    pauses.clear()
    made = work()
    time.sleep(0.001)
    done.set()
    thread.join()
    del made
    return max(pauses)


def _shaped(interpreter: Any) -> Any:
    interpreter.allocate_tensors()
    return interpreter


def _ran(engine: LiteRT, inputs: Tensors) -> LiteRT:
    engine.run(inputs)
    return engine


def test_while_a_large_litert_file_is_loaded_other_threads_go_on(model_files: dict[str, Path]) -> None:
    """Measured against an interpreter that packs the same file's weights by itself, in turn with ours."""
    path = model_files["cnn.fp32.tflite"]
    one = {"image": np.zeros((1, 150, 150, 3), np.float32)}
    held, pauses = [], []
    for _ in range(TIMES):
        held.append(longest_pause(lambda: _shaped(Interpreter(model_path=str(path), num_threads=1))))
        pauses.append(longest_pause(lambda: _ran(LiteRT(path=path, signature=IMAGE), one)))
    print(f"\nlongest pause: {min(pauses) * 1e3:.1f} ms; of an interpreter by itself {min(held) * 1e3:.1f} ms")
    assert min(pauses) < min(held) / PART
