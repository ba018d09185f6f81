"""The Open Inference Protocol as Triton's own client speaks it, unmodified, against a running server."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.http.auth import BasicAuth
from tritonclient.utils import InferenceServerException

from inference.tensor_bytes import DATATYPES
from tests.inference.conftest import PlaneSite
from tests.inference.test_plane import picture


@pytest.fixture
def client(plane: PlaneSite) -> Iterator[triton.InferenceServerClient]:
    found = triton.InferenceServerClient(f"127.0.0.1:{plane.site.port}")
    found.register_plugin(BasicAuth("any", plane.acme_key))
    yield found
    found.close()


def given(name: str, tensor: Any, datatype: str, *, binary: bool = True) -> triton.InferInput:
    found = triton.InferInput(name, list(tensor.shape), datatype)
    found.set_data_from_numpy(tensor, binary_data=binary)
    return found


def samples(dtype: str) -> np.ndarray[Any, Any]:
    """Two rows of three of the dtype's odd values."""
    if dtype == "bytes":
        return np.array([[b"", "größe".encode(), b"a"], [b"x" * 300, b"\n", b"\x00"]], object)
    if dtype == "bool":
        return np.array([[True, False, True], [False, False, True]])
    kind = np.dtype(dtype)
    if kind.kind == "f":
        top = np.finfo(kind)
        return np.array([[np.nan, np.inf, -np.inf], [top.max, top.min, top.tiny]], kind)
    whole = np.iinfo(kind)
    return np.array([[whole.max, whole.min, 0], [1, 2, 3]], kind)


@pytest.mark.parametrize("dtype", DATATYPES)
def test_every_dtype_comes_back_byte_for_byte(
    every_dtype: PlaneSite, client: triton.InferenceServerClient, dtype: str
) -> None:
    for rows in (samples(dtype), samples(dtype)[:0], samples(dtype)[:, :0], samples(dtype)[:1, :1]):
        asked = given("x", rows, DATATYPES[dtype])
        found = client.infer(f"same-{dtype}", [asked]).as_numpy("out_x")
        assert found.shape == rows.shape
        assert found.tolist() == rows.tolist() if dtype == "bytes" else found.tobytes() == rows.tobytes()


@pytest.mark.parametrize("dtype", [dtype for dtype in DATATYPES if dtype != "float16"])
def test_every_dtype_but_fp16_goes_through_json(
    every_dtype: PlaneSite, client: triton.InferenceServerClient, dtype: str
) -> None:
    rows = samples(dtype)[1:] if dtype != "bytes" else samples(dtype)[:1]
    asked = given("x", rows, DATATYPES[dtype], binary=False)
    wanted = triton.InferRequestedOutput("out_x", binary_data=False)
    found = client.infer(f"same-{dtype}", [asked], outputs=[wanted])
    described = found.get_response()["outputs"][0]
    assert described["datatype"] == DATATYPES[dtype]
    if dtype == "bytes":
        assert described["data"] == [one.decode() for one in rows.ravel()]
    else:
        assert found.as_numpy("out_x").tobytes() == rows.tobytes()


def test_nan_and_infinity_are_null_in_json(every_dtype: PlaneSite, client: triton.InferenceServerClient) -> None:
    asked = given("x", samples("float32")[:1], "FP32")
    found = client.infer("same-float32", [asked], outputs=[triton.InferRequestedOutput("out_x", binary_data=False)])
    assert found.get_response()["outputs"][0]["data"] == [None, None, None]


@pytest.mark.parametrize("way", [None, "gzip", "deflate"])
def test_compressed_both_ways(every_dtype: PlaneSite, client: triton.InferenceServerClient, way: str | None) -> None:
    rows = np.arange(20000, dtype=np.float32).reshape(10, 2000)
    found = client.infer(
        "same-float32",
        [given("x", rows, "FP32")],
        request_compression_algorithm=way,
        response_compression_algorithm=way,
    )
    assert found.as_numpy("out_x").tobytes() == rows.tobytes()


def test_several_inputs_and_outputs_in_any_order(every_dtype: PlaneSite, client: triton.InferenceServerClient) -> None:
    a, b = np.array([[1.5, 2.5]], np.float32), np.array([["one", "two", "three"]], object)
    outputs = [
        triton.InferRequestedOutput("out_b", binary_data=True),
        triton.InferRequestedOutput("out_a", binary_data=False),
    ]
    found = client.infer("pair", [given("b", b, "BYTES", binary=False), given("a", a, "FP32")], outputs=outputs)
    assert found.as_numpy("out_a").tolist() == a.tolist()
    assert found.as_numpy("out_b").tolist() == [[b"one", b"two", b"three"]]
    alone = client.infer("pair", [given("a", a, "FP32"), given("b", b, "BYTES")], outputs=outputs[1:])
    assert [one["name"] for one in alone.get_response()["outputs"]] == ["out_a"]


def test_the_answer_carries_name_version_and_id(plane: PlaneSite, client: triton.InferenceServerClient) -> None:
    rows = np.zeros((1, 4), np.float32)
    found = client.infer("tiny", [given("x", rows, "FP32")], request_id="my-id", timeout=5_000_000, priority=1)
    about = found.get_response()
    assert (about["model_name"], about["model_version"], about["id"]) == ("tiny", "1", "my-id")
    assert client.infer("tiny", [given("x", rows, "FP32")], model_version="1").as_numpy("y").shape == (1, 3)


def test_classification_names_the_best(plane: PlaneSite, client: triton.InferenceServerClient) -> None:
    rows = np.array([[1, 3, 2, 0]], np.float32)
    wanted = triton.InferRequestedOutput("y", class_count=2)
    found = client.infer("identity", [given("x", rows, "FP32")], outputs=[wanted]).as_numpy("y")
    assert [one.decode().split(":") for one in found[0]] == [["3.000000", "1"], ["2.000000", "2"]]


def test_pictures_as_files_and_as_pixels(plane: PlaneSite, client: triton.InferenceServerClient) -> None:
    files = np.array([picture("JPEG", (150, 150)), picture("PNG", (40, 30))], object)
    assert client.infer("cats", [given("image", files, "BYTES")]).as_numpy("score").shape == (2, 1)
    pixels = np.random.default_rng(0).integers(0, 255, (3, 150, 150, 3), dtype=np.uint8)
    as_bytes = client.infer("cats", [given("image", pixels, "UINT8")]).as_numpy("score")
    as_floats = client.infer("cats", [given("image", pixels.astype(np.float32) / 255, "FP32")]).as_numpy("score")
    assert np.abs(as_bytes - as_floats).max() < 1e-3


def test_health_metadata_config_and_statistics(plane: PlaneSite, client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("tiny")
    assert client.is_model_ready("tiny", "1")
    assert not client.is_model_ready("tiny", "9")
    assert "statistics" in client.get_server_metadata()["extensions"]
    about = client.get_model_metadata("tiny")
    assert about["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
    assert client.get_model_config("tiny")["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [4]}]
    before = client.get_inference_statistics("tiny")["model_stats"][0]
    client.infer("tiny", [given("x", np.zeros((3, 4), np.float32), "FP32")])
    after = client.get_inference_statistics("tiny")["model_stats"][0]
    assert after["inference_count"] == before["inference_count"] + 3
    assert after["inference_stats"]["success"]["count"] == before["inference_stats"]["success"]["count"] + 1
    assert after["inference_stats"]["compute_infer"]["ns"] > 0
    assert "tiny" in {one["name"] for one in client.get_inference_statistics()["model_stats"]}


def test_repository_calls_load_and_unload(plane: PlaneSite, client: triton.InferenceServerClient) -> None:
    client.unload_model("identity")
    states = {one["name"]: one["state"] for one in client.get_model_repository_index()}
    assert (states["identity"], states["tiny"]) == ("UNAVAILABLE", "READY")
    client.load_model("identity")
    states = {one["name"]: one["state"] for one in client.get_model_repository_index()}
    assert states["identity"] == "READY"


def test_what_is_not_served_is_said(plane: PlaneSite, client: triton.InferenceServerClient) -> None:
    for call in (
        client.get_log_settings,
        client.get_trace_settings,
        client.get_system_shared_memory_status,
        client.get_cuda_shared_memory_status,
    ):
        with pytest.raises(InferenceServerException, match="not served here"):
            call()


@pytest.mark.parametrize(
    ("status", "words", "asked"),
    [
        (404, "no deployment", ("foreign", given("x", np.zeros((1, 4), np.float32), "FP32"))),
        (400, "this model takes", ("tiny", given("z", np.zeros((1, 4), np.float32), "FP32"))),
        (400, "datatype FP64", ("tiny", given("x", np.zeros((1, 4)), "FP64"))),
        (400, "shape [1, 5]", ("tiny", given("x", np.zeros((1, 5), np.float32), "FP32"))),
    ],
)
def test_refusals_have_tritons_codes(
    client: triton.InferenceServerClient, status: int, words: str, asked: tuple[str, triton.InferInput]
) -> None:
    with pytest.raises(InferenceServerException) as refused:
        client.infer(asked[0], [asked[1]])
    assert refused.value.status() == str(status)
    assert words in refused.value.message()


def test_another_tenants_deployment_is_not_there(plane: PlaneSite) -> None:
    client = triton.InferenceServerClient(f"127.0.0.1:{plane.site.port}")
    client.register_plugin(BasicAuth("any", plane.globex_key))
    with pytest.raises(InferenceServerException, match="no deployment 'tiny'"):
        client.infer("tiny", [given("x", np.zeros((1, 4), np.float32), "FP32")])
    assert client.get_model_repository_index() == []
    assert client.get_inference_statistics()["model_stats"] == []
    client.close()


def test_the_asynchronous_client_of_triton(plane: PlaneSite) -> None:
    async def ask() -> list[float]:
        async with triton_aio.InferenceServerClient(f"127.0.0.1:{plane.site.port}") as client:
            assert await client.is_server_ready()
            rows = [np.full((1, 4), number, np.float32) for number in range(50)]
            found = await asyncio.gather(
                *(
                    client.infer(
                        "identity",
                        [given("x", row, "FP32", binary=number % 2 == 0)],
                        outputs=[triton.InferRequestedOutput("y", binary_data=number % 3 == 0)],
                        headers={"X-API-Key": plane.acme_key},  # the client writes into it
                    )
                    for number, row in enumerate(rows)
                )
            )
            return [float(one.as_numpy("y")[0, 0]) for one in found]

    assert asyncio.run(ask()) == [float(number) for number in range(50)]


def raw(plane: PlaneSite, body: bytes, **headers: str) -> httpx.Response:
    with plane.client() as client:
        return client.post("/v2/models/tiny/infer", content=body, headers=headers)


def test_a_raw_body_is_the_one_tensor(plane: PlaneSite) -> None:
    answer = raw(plane, np.zeros((2, 4), np.float32).tobytes(), **{"Inference-Header-Content-Length": "0"})
    length = int(answer.headers["inference-header-content-length"])
    assert json.loads(answer.content[:length])["outputs"][0]["shape"] == [2, 3]
    assert len(answer.content) == length + 2 * 3 * 4
    assert answer.headers["content-type"] == "application/octet-stream"


HEAD = b'{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","parameters":{"binary_data_size":16}}]}'


@pytest.mark.parametrize(
    ("body", "length", "words"),
    [
        (HEAD + b"\0" * 16, "9999", "length of the JSON"),
        (HEAD + b"\0" * 16, "-1", "length of the JSON"),
        (HEAD + b"\0" * 16, "9" * 5000, "length of the JSON"),
        (HEAD + b"\0" * 15, str(len(HEAD)), "15 come after the JSON"),
        (HEAD + b"\0" * 17, str(len(HEAD)), "add up to 16"),
        (HEAD.replace(b"[1,4]", b"[1,-4]") + b"\0" * 16, str(len(HEAD) + 1), "list of sizes"),
        (HEAD.replace(b"FP32", b"FP31") + b"\0" * 16, str(len(HEAD)), "expected one of BOOL"),
        (b"\0" * 15, "0", "rows of the input 'x' have 16"),
        (b"{}", "2", "expected a list of tensors"),
        (b'{"inputs":[3]}', "14", "inputs[0]"),
        (b'{"inputs":[]}', "13", "this model takes ['x']"),
    ],
)
def test_bad_bodies_get_words(plane: PlaneSite, body: bytes, length: str, words: str) -> None:
    answer = raw(plane, body, **{"Inference-Header-Content-Length": length})
    assert answer.status_code == 400
    assert words in answer.json()["error"]
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize("shape", [[0, 2147483647], [2147483647, 0], [3, 2147483647]])
def test_a_shape_that_costs_its_sender_nothing_costs_the_host_nothing(every_dtype: PlaneSite, shape: list[int]) -> None:
    head = {"name": "x", "shape": shape, "datatype": "FP32", "parameters": {"binary_data_size": 0}}
    body = json.dumps({"inputs": [head]}).encode()
    with every_dtype.client() as client:
        headers = {"Inference-Header-Content-Length": str(len(body))}
        refused = client.post("/v2/models/same-float32/infer", content=body, headers=headers)
    assert refused.status_code in (400, 413), refused.text
