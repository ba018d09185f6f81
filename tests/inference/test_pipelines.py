"""Versions whose inputs are texts or columns: served through every protocol, on a real server, by small recipes."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton

from tests.inference.conftest import PlaneSite
from tests.lines import Line, lines

NATIVE = "/api/v1/deployments/{}/predict"
TEXT = {"content-type": "text/plain"}


@pytest.fixture
def client(speaking: PlaneSite) -> Iterator[httpx.Client]:
    with speaking.client() as found:
        yield found


def test_a_text_is_answered_in_the_language_of_its_task(client: httpx.Client) -> None:
    answer = client.post(NATIVE.format("vowels"), content="banana", headers=TEXT)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["amount"], found["vowels"], found["model"], found["version"]) == ("many", 3, "vowels", 1)
    assert found["usage"] == {"predictions": 1, "input_bytes": 6}
    assert "predictions" not in found


@pytest.mark.parametrize(
    "document",
    [
        {"instances": ["banana", "sky"]},
        {"instances": [{"text": "banana"}, {"text": "sky"}]},
        {"instances": [{"b64": "YmFuYW5h"}, {"b64": "c2t5"}]},
        {"instances": [{"text": {"b64": "YmFuYW5h"}}, {"text": "sky"}]},
        {"inputs": ["banana", "sky"]},
        {"inputs": {"text": ["banana", "sky"]}},
    ],
)
def test_several_texts_in_one_request(client: httpx.Client, document: dict[str, Any]) -> None:
    found = client.post(NATIVE.format("vowels"), json=document).json()
    assert found["predictions"] == [{"amount": "many", "vowels": 3}, {"amount": "few", "vowels": 0}]
    assert found["usage"]["predictions"] == 2


def test_a_form_has_texts_as_fields_or_as_files(client: httpx.Client) -> None:
    form: list[tuple[str, Any]] = [("first", (None, b"banana")), ("more", ("sky.txt", b"sky", "text/plain"))]
    found = client.post(NATIVE.format("vowels"), files=form).json()
    assert found["predictions"] == [
        {"file": "first", "amount": "many", "vowels": 3}, {"file": "sky.txt", "amount": "few", "vowels": 0}
    ]  # fmt: skip
    refused = client.post(NATIVE.format("vowels"), files=[("f", ("a.png", b"banana", "image/png"))])
    assert refused.status_code == 415


def test_the_charset_of_a_text_is_read(client: httpx.Client) -> None:
    url, latin = NATIVE.format("vowels"), {"content-type": "text/plain; charset=ISO-8859-1"}
    assert client.post(url, content="éa".encode("latin-1"), headers=latin).json()["vowels"] == 1
    assert client.post(url, content=b"a", headers={"content-type": "text/plain; charset=rot13"}).status_code == 415
    wrong = client.post(url, content=b"\xff", headers={"content-type": "text/plain; charset=us-ascii"})
    assert (wrong.status_code, "us-ascii" in wrong.json()["detail"]) == (400, True)


def test_what_is_wrong_with_a_row_is_said_with_its_number(client: httpx.Client) -> None:
    url = NATIVE.format("vowels")
    alone = client.post(url, content="x" * 5000, headers=TEXT)
    assert (alone.status_code, alone.json()["detail"]) == (400, "The text has 5,000 bytes; at most 4,096 are read.")
    several = client.post(url, json={"instances": ["a"] * 40 + [""] + ["b"]})
    assert (several.status_code, several.json()["detail"]) == (400, "Row 40: The text is empty.")
    assert client.post(url, content=b"", headers=TEXT).status_code == 400
    assert client.post(url, json={"instances": [7]}).status_code == 400
    assert client.post(url, content=b"x", headers={"content-type": "audio/wav"}).status_code == 415


def test_no_rows_are_answered(client: httpx.Client) -> None:
    assert client.post(NATIVE.format("vowels"), json={"instances": []}).json()["predictions"] == []
    assert client.post("/v1/models/vowels:predict", json={"instances": []}).json() == {"predictions": []}


def test_columns_may_be_missing_and_texts_be_numbers(client: httpx.Client) -> None:
    rows: list[Any] = [
        {"age": 3, "city": "Rome"},
        {"age": None, "city": 12},
        {"city": True},
        {"age": True, "city": None},
    ]
    found = client.post(NATIVE.format("ages"), json={"instances": rows})
    assert [one["value"] for one in found.json()["predictions"]] == [7, 1, 3, 1]
    columns = {"age": [3, None], "city": ["Rome", None]}
    found = client.post(NATIVE.format("ages"), json={"inputs": columns})
    assert [one["value"] for one in found.json()["predictions"]] == [7, -1]
    wrong: list[tuple[list[Any], str]] = [
        ([{"age": "old", "city": "Rome"}], "float64"),
        ([{"age": 1, "town": "Rome"}], "['age', 'city']"),
        ([{"age": 1, "city": ["Rome"]}], "bytes"),
        (["Rome"], "['age', 'city']"),
    ]
    for instances, words in wrong:
        refused = client.post(NATIVE.format("ages"), json={"instances": instances})
        assert (refused.status_code, words in refused.json()["detail"]) == (400, True), refused.text
    assert client.post(NATIVE.format("ages"), content="3,Rome", headers=TEXT).status_code == 415


def test_tensorflow_serving_takes_and_gives_texts(client: httpx.Client) -> None:
    url = "/v1/models/vowels"
    rows = [{"amount": "many", "vowels": 3.0}, {"amount": "few", "vowels": 0.0}]
    for instances in (["banana", "sky"], [{"text": "banana"}, {"text": "sky"}], [{"b64": "YmFuYW5h"}, "sky"]):
        assert client.post(f"{url}:predict", json={"instances": instances}).json() == {"predictions": rows}
    columns = client.post(f"{url}:predict", json={"inputs": {"text": ["banana", "sky"]}}).json()
    assert columns == {"outputs": {"amount": ["many", "few"], "vowels": [3.0, 0.0]}}
    signature = client.get(f"{url}/metadata").json()["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["inputs"]["text"]["dtype"] == "DT_STRING"
    assert signature["inputs"]["text"]["tensor_shape"]["dim"] == [{"size": "-1", "name": ""}]
    assert client.post(f"{url}:regress", json={"examples": [{"text": "banana"}]}).json() == {"results": [3.0]}
    assert client.post(f"{url}:classify", json={"examples": [{"text": "sky"}]}).json() == {"results": [[["0", 0.0]]]}
    table = client.post("/v1/models/ages:predict", json={"instances": [{"age": 3, "city": "Rome"}]}).json()
    assert table == {"predictions": [7.0]}


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("shape", [(2,), (2, 1)])
def test_tritons_client_sends_and_gets_texts(speaking: PlaneSite, shape: tuple[int, ...], binary: bool) -> None:
    asked = triton.InferInput("text", list(shape), "BYTES")
    asked.set_data_from_numpy(np.array([b"banana", b"sky"], object).reshape(shape), binary_data=binary)
    outputs = [triton.InferRequestedOutput(name, binary_data=binary) for name in ("amount", "vowels")]
    client = triton.InferenceServerClient(f"127.0.0.1:{speaking.site.port}")
    try:
        headers = {"X-API-Key": speaking.acme_key}
        found = client.infer("vowels", [asked], outputs=outputs, headers=headers)
        (described,) = client.get_model_metadata("vowels", headers=headers)["inputs"]
    finally:
        client.close()
    amounts = [one if isinstance(one, bytes) else one.encode() for one in found.as_numpy("amount").tolist()]
    assert amounts == [b"many", b"few"]
    assert found.as_numpy("vowels").tolist() == [3.0, 0.0]
    assert described == {"name": "text", "datatype": "BYTES", "shape": [-1]}


def test_the_open_inference_protocol_takes_columns_and_one_raw_text(client: httpx.Client) -> None:
    asked = {
        "inputs": [
            {"name": "age", "datatype": "FP64", "shape": [2], "data": [3, 4]},
            {"name": "city", "datatype": "BYTES", "shape": [2], "data": ["Rome", ""]},
        ]
    }
    (output,) = client.post("/v2/models/ages/infer", json=asked).json()["outputs"]
    assert (output["shape"], output["data"]) == ([2], [7.0, 4.0])
    raw = client.post(
        "/v2/models/vowels/infer", content=b"banana", headers={"Inference-Header-Content-Length": "0"}
    )  # fmt: skip
    assert b"\x04\x00\x00\x00many" in raw.content
    best = {"name": "amount", "parameters": {"classification": 1}}
    text = {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["sky"]}
    refused = client.post("/v2/models/vowels/infer", json={"inputs": [text], "outputs": [best]})
    assert (refused.status_code, "scores" in refused.json()["error"]) == (400, True)


def test_requests_of_all_lengths_at_once_get_their_own_answers(speaking: PlaneSite) -> None:
    asked = ["a" * (1 + number * number % 3000) if number % 7 else "" for number in range(120)]

    async def ask(line: Line, text: str) -> tuple[int, Any]:
        line.send("/v1/models/vowels:predict", json.dumps({"instances": [text]}).encode())
        status, body = await line.read()
        return status, json.loads(body)

    async def main() -> None:
        async with lines(speaking.site.port, 12, key=speaking.acme_key) as many:
            for start in range(0, len(asked), len(many)):
                some = asked[start : start + len(many)]
                found = await asyncio.gather(*(ask(line, text) for line, text in zip(many, some, strict=True)))
                for text, (status, answer) in zip(some, found, strict=True):
                    if text:
                        assert (status, answer["predictions"][0]["vowels"]) == (200, len(text))
                    else:
                        assert (status, answer) == (400, {"error": "The text is empty."})

    asyncio.run(main())


def test_a_version_is_measured_as_what_it_is_usually_asked(client: httpx.Client) -> None:
    client.post(NATIVE.format("vowels"), content="banana", headers=TEXT).raise_for_status()
    (found,) = client.get("/api/v1/models/vowels/versions/1/measurements").json()["results"]
    assert found["table"][0]["error"] == ""


def test_a_foreign_pipeline_is_not_there(speaking: PlaneSite) -> None:
    with speaking.client(speaking.globex_key) as other:
        assert other.post(NATIVE.format("vowels"), content="banana", headers=TEXT).status_code == 404
