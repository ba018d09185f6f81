"""A live site whose tenants have small models deployed, for the tests that speak to a real server."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save

from benchmarks import models
from tests import pipelines
from tests.live import LiveSite, live_site
from tests.publishing import CNN, IDENTITY, TINY, make_key, publish, publish_all


@dataclass
class PlaneSite:
    """A site with three tenants: acme deploys `tiny`, `identity` and `cats`, globex and initech nothing yet."""

    site: LiveSite
    acme_key: str
    globex_key: str
    initech_key: str
    files: dict[str, Path]

    def client(self, key: str | None = None) -> httpx.Client:
        return httpx.Client(
            base_url=self.site.url, headers={"Authorization": f"Bearer {key or self.acme_key}"}, timeout=30
        )

    def wait_until_loaded(self, *names: str) -> None:
        with self.client() as client:
            for name in names:
                assert client.post(f"/v1/models/{name}:predict", json={"instances": [[0, 0, 0, 0]]}).status_code < 500


def open_site(site: LiveSite, files: dict[str, Path]) -> PlaneSite:
    for tenant in ("acme", "globex", "initech"):
        site.manage("create_tenant", tenant)
    publish_all(
        site,
        {"tenant": "acme", "model": "tiny", "path": files["tiny.tflite"], "deployment": "tiny"} | TINY,
        {"tenant": "acme", "model": "identity", "path": files["identity.tflite"], "deployment": "identity"} | IDENTITY,
        {"tenant": "acme", "model": "cats", "path": files["cnn.int8.tflite"], "deployment": "cats"} | CNN,
    )
    acme, globex, initech = (make_key(site, tenant) for tenant in ("acme", "globex", "initech"))
    return PlaneSite(site, acme, globex, initech, files)


@pytest.fixture(scope="session")
def model_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    names = ("tiny.tflite", "identity.tflite", "cnn.int8.tflite", "cnn.fp32.tflite", "mixed.tflite")
    return models.made(folder, *names)


@pytest.fixture(scope="session")
def plane(model_files: dict[str, Path]) -> Iterator[PlaneSite]:
    with tempfile.TemporaryDirectory() as var, live_site(Path(var)) as site:
        found = open_site(site, model_files)
        site.start_server(module="tests.recipe_server")  # it knows the recipes of tests, too
        found.wait_until_loaded("tiny", "identity", "cats")
        yield found


@pytest.fixture(scope="session")
def speaking(plane: PlaneSite, tmp_path_factory: pytest.TempPathFactory) -> PlaneSite:
    """The plane with the deployments `vowels`, `ages` and, of initech too, `speller`, whose recipes are of tests."""
    fake = pipelines.of_texts(tmp_path_factory.mktemp("fake"), recipe=pipelines.FakeSpeller.name)
    texts = pipelines.of_texts(tmp_path_factory.mktemp("texts"))
    wanted = (
        ("acme", "vowels", texts),
        ("acme", "ages", pipelines.of_a_table(tmp_path_factory.mktemp("table"))),
        ("acme", "speller", fake),
        ("initech", "speller", fake),
    )
    publish_all(plane.site, *[about | {"tenant": of, "model": name, "deployment": name} for of, name, about in wanted])
    return plane


def slow(path: Path, *, answer: float) -> Path:
    """An ONNX file that works for some milliseconds, then gives x + answer: (rows, 4) to (rows, 4)."""
    size = 700
    big = numpy_helper.from_array(np.zeros((size, size), np.float32), "big")
    more = numpy_helper.from_array(np.full(4, answer, np.float32), "more")
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),  # else it is worked out once, at loading
        helper.make_node("Add", ["big", "sum"], ["moved"]),
        helper.make_node("MatMul", ["moved", "big"], ["work"]),
        helper.make_node("ReduceSum", ["work"], ["nothing"], keepdims=0),
        helper.make_node("Add", ["x", "nothing"], ["same"]),
        helper.make_node("Add", ["same", "more"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", 4]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "slow", ends[:1], ends[1:], [big, more])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


@pytest.fixture(scope="session")
def crowd(plane: PlaneSite, tmp_path_factory: pytest.TempPathFactory) -> PlaneSite:
    """The plane with `switched`, which serves version 1 (x + 100); version 2 (x + 200) is there, too."""
    folder = tmp_path_factory.mktemp("slow")
    about = TINY | {"engine": "onnx", "outputs": ("y", (-1, 4))}
    for number, name in ((1, "switched"), (2, "")):
        path = slow(folder / f"{number}.onnx", answer=100.0 * number)
        assert publish(plane.site, tenant="acme", model="switched", path=path, deployment=name, **about) == number
    with plane.client() as client:
        assert client.post("/v1/models/switched:predict", json={"instances": [[0, 0, 0, 0]]}).status_code == 200
    return plane


ONNX_TYPES = {
    "bool": TensorProto.BOOL, "uint8": TensorProto.UINT8, "uint16": TensorProto.UINT16, "uint32": TensorProto.UINT32,
    "uint64": TensorProto.UINT64, "int8": TensorProto.INT8, "int16": TensorProto.INT16, "int32": TensorProto.INT32,
    "int64": TensorProto.INT64, "float16": TensorProto.FLOAT16, "float32": TensorProto.FLOAT,
    "float64": TensorProto.DOUBLE, "bytes": TensorProto.STRING,
}  # fmt: skip


def identity(path: Path, tensors: dict[str, str]) -> Path:
    """An ONNX file that gives each input NAME back as out_NAME, whatever its rows' shape."""
    nodes = [helper.make_node("Identity", [name], [f"out_{name}"]) for name in tensors]
    graph = helper.make_graph(
        nodes,
        "identity",
        [helper.make_tensor_value_info(name, ONNX_TYPES[dtype], ["rows", None]) for name, dtype in tensors.items()],
        [helper.make_tensor_value_info(f"out_{n}", ONNX_TYPES[dtype], ["rows", None]) for n, dtype in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    save(model, path)
    return path


@pytest.fixture(scope="session")
def every_dtype(plane: PlaneSite, tmp_path_factory: pytest.TempPathFactory) -> PlaneSite:
    """The plane with the deployments `same-DTYPE`, which give their input back, and `pair`, with two inputs."""
    folder = tmp_path_factory.mktemp("onnx")
    about = TINY | {"tenant": "acme", "engine": "onnx"}
    wanted: list[dict[str, Any]] = [
        {
            "model": f"same-{dtype}",
            "path": identity(folder / f"{dtype}.onnx", {"x": dtype}),
            "inputs": [("x", dtype, (-1, -1))],
            "outputs": [("out_x", dtype, (-1, -1))],
        }
        for dtype in ONNX_TYPES
    ]
    wanted.append(
        {
            "model": "pair",
            "path": identity(folder / "two.onnx", {"a": "float32", "b": "bytes"}),
            "inputs": [("a", "float32", (-1, -1)), ("b", "bytes", (-1, -1))],
            "outputs": [("out_a", "float32", (-1, -1)), ("out_b", "bytes", (-1, -1))],
        }
    )
    publish_all(plane.site, *[about | {"deployment": one["model"]} | one for one in wanted])
    return plane
