"""The site that the golden files speak to: all that they can see of it is made here."""

import base64
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks import models
from tests import pipelines
from tests.inference.conftest import identity
from tests.live import LiveSite, live_site
from tests.publishing import CNN, IDENTITY, TINY, make_key, publish_all

DTYPES = ("float32", "float16", "int64", "bool", "bytes")


@dataclass(frozen=True)
class GoldenSite:
    """A running site, and its keys by the names that the files call them."""

    site: LiveSite
    keys: dict[str, str]


def onnx(folder: Path, model: str, **tensors: str) -> dict[str, Any]:
    """A model that gives each of its tensors back."""
    return {
        **TINY, "engine": "onnx", "model": model, "path": identity(folder / f"{model}.onnx", tensors),
        "inputs": [(name, dtype, (-1, -1)) for name, dtype in tensors.items()],
        "outputs": [(f"out_{name}", dtype, (-1, -1)) for name, dtype in tensors.items()],
    }  # fmt: skip


def published(folder: Path) -> list[dict[str, Any]]:
    files = models.made(folder, "tiny.tflite", "identity.tflite", "cnn.int8.tflite")
    (broken := folder / "broken.tflite").write_bytes(b"no model")
    same = IDENTITY | {"model": "identity", "path": files["identity.tflite"]}
    given = [
        TINY | {"model": "tiny", "path": files["tiny.tflite"], "deployment": "tiny"},
        same | {"deployment": "identity"},
        same,  # version 2
        same | {"model": "lettered", "labels": ["a", "b", "c", "d"], "deployment": "lettered"},
        CNN | {"model": "cats", "path": files["cnn.int8.tflite"], "deployment": "cats"},
        IDENTITY | {"model": "broken", "path": broken, "deployment": "broken"},
        *(onnx(folder, dtype, x=dtype) | {"deployment": f"same-{dtype}"} for dtype in DTYPES),
        onnx(folder, "pair", a="float32", b="bytes") | {"deployment": "pair"},
        onnx(folder, "blob", x_bytes="bytes") | {"deployment": "blob"},
        {"model": "vowels", "deployment": "vowels"} | pipelines.of_texts(folder),
    ]
    return [{"tenant": "acme", **one} for one in given] + [{"tenant": "globex", **same, "deployment": "only"}]


def deploy(client: httpx.Client) -> None:
    """What takes more than publishing: versions with a label, and deployments that refuse."""
    for name, more in (
        ("labelled", {}),
        ("shadowed", {"shadow": {"version": 2}}),
        ("narrow", {"rows_per_request": 2}),
        ("limited", {"requests_per_minute": 1}),
        ("paused", {}),
    ):
        client.post("/api/v1/deployments", json={"name": name, "model": "identity", "version": 1}).raise_for_status()
        if more:
            client.patch(f"/api/v1/deployments/{name}", json=more).raise_for_status()
    client.put("/api/v1/deployments/labelled/labels/next", json={"version": 2}).raise_for_status()
    client.post("/api/v1/deployments/paused/pause").raise_for_status()


def warm(client: httpx.Client, tensors: dict[str, Any]) -> None:
    """Has every version loaded: one that is not yet there is another case."""
    for name, row in tensors.items():
        found = client.post(f"/v1/models/{name}:predict", json={"instances": [row]})
        assert found.status_code == (503 if "broken" in name else 200), f"{name}: {found.text}"


@pytest.fixture(scope="session")
def golden_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GoldenSite]:
    with tempfile.TemporaryDirectory() as var, live_site(Path(var)) as site:
        for tenant in ("acme", "globex"):
            site.manage("create_tenant", tenant)
        publish_all(site, *published(tmp_path_factory.mktemp("golden")))
        keys = {"acme": make_key(site, "acme"), "globex": make_key(site, "globex")}
        keys["reader"] = make_key(site, "acme", scopes="read")
        keys["basic"] = base64.b64encode(f"any:{keys['acme']}".encode()).decode()
        site.start_server(module="tests.recipe_server")
        rows: dict[str, Any] = dict.fromkeys(
            ("identity", "lettered", "broken", "labelled/labels/next", "limited"), [0] * 4
        )
        rows |= {"vowels": "a"}
        rows |= {"same-float32": [0], "same-float16": [0], "same-int64": [0], "same-bool": [True], "same-bytes": ["a"]}
        with httpx.Client(base_url=site.url, headers={"X-API-Key": keys["acme"]}, timeout=30) as client:
            deploy(client)
            warm(client, rows)
        with httpx.Client(base_url=site.url, headers={"X-API-Key": keys["globex"]}, timeout=30) as client:
            warm(client, {"only": [0] * 4})
        yield GoldenSite(site, keys)
