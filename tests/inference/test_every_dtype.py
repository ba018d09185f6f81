"""Tensors of every dtype and shape through every protocol and encoding, and the same bytes back from a model that
gives back what it gets."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tritonclient.http.auth import BasicAuth

from inference.tensor_bytes import DATATYPES
from modelhub.signatures import BYTES
from tests.inference.conftest import PlaneSite
from tests.inference.test_open_inference import given as as_input

NUMBERS = [dtype for dtype in DATATYPES if dtype != BYTES]
SHAPES = st.tuples(st.integers(0, 4), st.integers(0, 5))
THOROUGH = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
Array = np.ndarray[Any, Any]


@st.composite
def tensors(draw: st.DrawFn, dtype: str) -> Array:
    shape = draw(SHAPES)
    if dtype != BYTES:
        return draw(hnp.arrays(dtype, shape))
    found = np.empty(shape[0] * shape[1], object)
    found[:] = [draw(st.text(max_size=8)).encode() for _ in range(found.size)]
    return found.reshape(shape)


@pytest.fixture(scope="module")
def clients(every_dtype: PlaneSite) -> Iterator[tuple[triton.InferenceServerClient, httpx.Client]]:
    client = triton.InferenceServerClient(f"127.0.0.1:{every_dtype.site.port}")
    client.register_plugin(BasicAuth("any", every_dtype.acme_key))
    with every_dtype.client() as http:
        yield client, http
    client.close()


Clients = tuple[triton.InferenceServerClient, httpx.Client]


@pytest.mark.parametrize("dtype", DATATYPES)
@THOROUGH
@given(data=st.data())
def test_open_inference_as_bytes(clients: Clients, dtype: str, data: st.DataObject) -> None:
    tensor = data.draw(tensors(dtype))
    answer = clients[0].infer(f"same-{dtype}", [as_input("x", tensor, DATATYPES[dtype])])
    assert answer.get_output("out_x")["datatype"] == DATATYPES[dtype]  # the client knows no dtype of empty arrays
    found = answer.as_numpy("out_x")
    assert found.shape == tensor.shape
    assert found.tolist() == tensor.tolist() if dtype == BYTES else found.tobytes() == tensor.tobytes()


@pytest.mark.parametrize("dtype", [dtype for dtype in DATATYPES if dtype != "float16"])
@THOROUGH
@given(data=st.data())
def test_open_inference_as_json(clients: Clients, dtype: str, data: st.DataObject) -> None:
    tensor = data.draw(tensors(dtype))
    listed = [one.decode() for one in tensor.ravel()] if dtype == BYTES else tensor.ravel().tolist()
    described = {"name": "x", "shape": tensor.shape, "datatype": DATATYPES[dtype], "data": listed}
    answer = clients[1].post(f"/v2/models/same-{dtype}/infer", content=json.dumps({"inputs": [described]}))
    assert answer.status_code == 200, answer.text
    (found,) = answer.json()["outputs"]
    assert found["shape"] == list(tensor.shape)
    if tensor.dtype.kind == "f":
        # NaN and the infinities have no other form in JSON than null.
        listed = [one if np.isfinite(one) else None for one in listed]
        assert [one is None for one in found["data"]] == [one is None for one in listed]
        listed, found["data"] = ([one for one in side if one is not None] for side in (listed, found["data"]))
        assert np.array(found["data"], dtype).tobytes() == np.array(listed, dtype).tobytes()
    else:
        assert found["data"] == listed


@pytest.mark.parametrize("path", ["/v1/models/same-{}:predict", "/api/v1/deployments/same-{}/predict"])
@pytest.mark.parametrize("columns", [False, True], ids=["rows", "columns"])
@pytest.mark.parametrize("dtype", DATATYPES)
@THOROUGH
@given(data=st.data())
def test_tensorflow_serving_and_native(
    clients: Clients, dtype: str, columns: bool, path: str, data: st.DataObject
) -> None:
    tensor = data.draw(tensors(dtype))
    rows = [[one.decode() for one in row] for row in tensor] if dtype == BYTES else tensor.tolist()
    answer = clients[1].post(
        path.format(dtype),
        content=json.dumps({"inputs" if columns else "instances": rows}),
        headers={"Content-Type": "application/json"},
    )
    assert answer.status_code == 200, answer.text
    found = json.loads(answer.content)["outputs" if columns else "predictions"]
    if tensor.dtype.kind == "f":
        back = np.array(found, dtype).reshape(len(found), -1) if found else tensor
        assert back.shape == tensor.shape
        assert np.array_equal(np.isnan(back), np.isnan(tensor))
        assert back[~np.isnan(back)].tobytes() == tensor[~np.isnan(tensor)].tobytes()
    else:
        assert found == rows
