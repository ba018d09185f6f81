"""The JSON before tensors is read once, and yet each request is read as it is."""

import gzip
import json
from typing import Any

import numpy as np
import pytest

from inference.engines.base import Tensors
from inference.engines.measuring import Candidate, Measured
from inference.plane.directory import VersionEntry
from inference.plane.loading import Loaded
from inference.plane.versions import LoadedVersion
from inference.protocols.base import Call, PredictRequest, parse_json
from inference.protocols.open_inference import PROTOCOL, forms
from inference.queueing import HostRows, Queue
from modelhub.signatures import Signature, TensorSpec
from tenants.errors import Invalid
from tests.inference.works import Doubling

ROWS = TensorSpec("x", "float32", (-1, 2))
TEXTS = TensorSpec("y", "bytes", (-1,))


@pytest.fixture
def version() -> LoadedVersion:
    """One that takes two numbers a row and gives a text."""
    signature = Signature((ROWS,), (TEXTS,))
    manifest: dict[str, Any] = {"serving": {"engine": "doubling", "file": "f"}}
    entry = VersionEntry("ver_1", "ten_a", "texts", 1, "", manifest, "", signature)
    measured = Measured(Candidate("doubling", "f"), {1: 0.001}, best_rows=1, alone={1: 0.001})
    loaded = Loaded(Doubling(), alone=None, served=None, measured=measured, memory_bytes=0)
    return LoadedVersion(entry, loaded, Queue(best_rows=1, limit=10, host=HostRows(100), tenant_id="ten_a"))


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Each JSON that is read."""
    found: list[bytes] = []

    def noted(body: bytes) -> dict[str, Any]:
        found.append(body)
        return parse_json(body)

    monkeypatch.setattr(forms, "parse_json", noted)
    return found


def asked(
    version: LoadedVersion, *rows: list[float], to: str = "texts", short: int = 0, accepts: str = "", **more: Any
) -> Call:
    """The call of a request with these rows as bytes, some of which may be lacking."""
    data = np.array(rows, np.float32).tobytes()
    about = {"name": "x", "shape": [len(rows), 2], "datatype": "FP32", "parameters": {"binary_data_size": len(data)}}
    text = json.dumps({"inputs": [about], "parameters": {"binary_data_output": True}} | more).encode()
    headers = {b"inference-header-content-length": str(len(text)).encode(), b"accept-encoding": accepts.encode()}
    body = text + data[: len(data) - short]
    return PROTOCOL.parse(PredictRequest("id", "", body, to, "infer", headers), version)


def texts(*each: bytes) -> Tensors:
    found = np.empty(len(each), object)
    found[:] = each
    return {"y": found}


def rendered(call: Call, *each: bytes) -> tuple[dict[str, Any], bytes]:
    """The JSON of the answer to a call, and the bytes after it."""
    reply = call.render(texts(*each))
    length = int(dict(reply.headers)[b"inference-header-content-length"])
    document: dict[str, Any] = json.loads(reply.body[:length])
    return document, reply.body[length:]


def test_the_same_json_is_read_once_and_each_request_has_its_own_bytes(
    version: LoadedVersion, read: list[bytes]
) -> None:
    calls = [asked(version, [1, 2]), asked(version, [3, 4]), asked(version, [5, 6])]
    assert [call.inputs["x"].tolist() for call in calls if call.inputs] == [[[1, 2]], [[3, 4]], [[5, 6]]]
    assert len(read) == 1
    asked(version, [1, 2], [3, 4])
    assert len(read) == 2


def test_what_comes_after_a_json_that_is_known_is_still_counted(version: LoadedVersion, read: list[bytes]) -> None:
    asked(version, [1, 2])
    with pytest.raises(Invalid, match="add up to 8 bytes; 7 come after"):
        asked(version, [1, 2], short=1)
    assert asked(version, [1, 2]).rows == 1
    assert len(read) == 2


def test_each_deployment_of_a_version_is_named(version: LoadedVersion, read: list[bytes]) -> None:
    for name in ("texts", "other", "texts", "other"):
        assert rendered(asked(version, [1, 2], to=name), b"a")[0]["model_name"] == name
    assert len(read) == 2


def test_an_answer_says_what_it_holds_whatever_the_one_before_held(version: LoadedVersion) -> None:
    for each in ([b"a"], [b"long"], [b"long"], [b"b", b"c"], [b"d"]):
        document, data = rendered(asked(version, [1, 2]), *each)
        (output,) = document["outputs"]
        assert output["shape"] == [len(each)]
        assert output["parameters"]["binary_data_size"] == len(data)
        assert data == b"".join(len(one).to_bytes(4, "little") + one for one in each)


def test_each_answer_is_in_the_encoding_that_its_own_request_takes(version: LoadedVersion, read: list[bytes]) -> None:
    plain = asked(version, [1, 2]).render(texts(b"a")).body
    assert gzip.decompress(asked(version, [1, 2], accepts="gzip").render(texts(b"a")).body) == plain
    assert asked(version, [1, 2]).render(texts(b"a")).body == plain
    assert len(read) == 1


def test_deadline_and_priority_come_with_each_request(version: LoadedVersion) -> None:
    parameters = {"binary_data_output": True, "timeout": 2_000_000, "priority": 3}
    for call in (asked(version, [1, 2], parameters=parameters), asked(version, [3, 4], parameters=parameters)):
        assert (call.timeout, call.priority) == (2.0, 3)
    assert (asked(version, [1, 2]).timeout, asked(version, [1, 2]).priority) == (None, 0)


def test_what_is_another_each_time_is_not_remembered(version: LoadedVersion) -> None:
    for number in range(3):
        assert rendered(asked(version, [1, 2], id=str(number)), b"a")[0]["id"] == str(number)
    asked(version, [1, 2], padding="x" * forms.REMEMBERED_BYTES)
    data = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}
    text = json.dumps({"inputs": [data]}).encode()
    headers = {b"inference-header-content-length": str(len(text)).encode()}
    PROTOCOL.parse(PredictRequest("id", "", text, "texts", "infer", headers), version)
    assert not version.known


def test_not_more_is_remembered_than_is_good(version: LoadedVersion) -> None:
    for rows in range(1, 2 * forms.REMEMBERED):
        asked(version, *[[1.0, 2.0]] * rows)
        assert 0 < len(version.known) <= forms.REMEMBERED


def test_what_was_refused_is_refused_again(version: LoadedVersion, read: list[bytes]) -> None:
    for _ in range(2):
        with pytest.raises(Invalid, match="takes float32 of shape"):
            asked(version, [1, 2], inputs=[_of_three()])
    assert len(read) == 2
    assert not version.known


def test_best_classes_of_texts_are_refused_before_anything_runs(version: LoadedVersion) -> None:
    with pytest.raises(Invalid, match=r"outputs.y: classification takes scores, and this output is of texts."):
        asked(version, [1, 2], outputs=[{"name": "y", "parameters": {"classification": 1}}])


def _of_three() -> dict[str, Any]:
    return {"name": "x", "shape": [1, 3], "datatype": "FP32", "parameters": {"binary_data_size": 8}}
