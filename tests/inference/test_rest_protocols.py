"""TensorFlow Serving's classify and regress, KServe V1, and several files in one native request."""

import base64

import httpx
import pytest

from tests.inference.conftest import PlaneSite
from tests.inference.test_plane import picture

NATIVE = "/api/v1/deployments/cats/predict"


def test_classify_gives_each_row_its_labels_with_scores(plane: PlaneSite) -> None:
    with plane.client() as client:
        asked = {"signature_name": "", "context": {}, "examples": [{"x": [1, 2, 3, 4]}, {"x": [0, 0, 0, 9]}]}
        answer = client.post("/v1/models/identity:classify", json=asked)
    assert answer.json() == {
        "results": [[["0", 1.0], ["1", 2.0], ["2", 3.0], ["3", 4.0]], [["0", 0.0], ["1", 0.0], ["2", 0.0], ["3", 9.0]]]
    }


def test_classify_names_both_of_two_labels(plane: PlaneSite) -> None:
    row = [[[0.5] * 3] * 150] * 150
    with plane.client() as client:
        answer = client.post("/v1/models/cats:classify", json={"examples": [{"image": row}]})
    (((first, low), (second, high)),) = answer.json()["results"]
    assert (first, second) == ("cat", "dog")
    assert low + high == pytest.approx(1)


def test_regress_wants_one_value_a_row(plane: PlaneSite) -> None:
    row = [[[0.5] * 3] * 150] * 150
    with plane.client() as client:
        (value,) = client.post("/v1/models/cats:regress", json={"examples": [{"image": row}]}).json()["results"]
        refused = client.post("/v1/models/identity:regress", json={"examples": [{"x": [1, 2, 3, 4]}]})
    assert 0 <= value <= 1
    assert refused.status_code == 400
    assert "4 values a row" in refused.json()["error"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"instances": [[1, 2, 3, 4]]}, "expected 'examples'"),
        ({"examples": [[1, 2, 3, 4]]}, "an object with the features"),
        ({"examples": [{"z": [1]}]}, "['x']"),
        ({"examples": [{"x": [1, 2, 3, 4]}], "more": 1}, "expected 'examples'"),
    ],
)
def test_bad_examples_get_words(plane: PlaneSite, body: object, words: str) -> None:
    with plane.client() as client:
        refused = client.post("/v1/models/identity:classify", json=body)
    assert refused.status_code == 400
    assert words in refused.json()["error"]


def test_one_status_answer_serves_clients_of_tensorflow_serving_and_of_kserve(plane: PlaneSite) -> None:
    with plane.client() as client:
        assert httpx.get(plane.site.url + "/").json() == {"status": "alive"}
        answer = client.get("/v1/models/tiny").json()
        assert {"cats", "identity", "tiny"} <= set(client.get("/v1/models").json()["models"])
    assert (answer["name"], answer["ready"]) == ("tiny", True)
    assert answer["model_version_status"][0]["state"] == "AVAILABLE"
    with plane.client(plane.globex_key) as foreign:
        assert foreign.get("/v1/models").json() == {"models": []}


def test_a_form_with_several_files_is_a_batch_in_its_order(plane: PlaneSite) -> None:
    files = [("file", (f"{size}.jpg", picture("JPEG", (size, 50)), "image/jpeg")) for size in (40, 60, 80)]
    with plane.client() as client:
        answer = client.post(NATIVE, files=files).json()
        alone = [client.post(NATIVE, content=one[1][1], headers={"Content-Type": "image/jpeg"}).json() for one in files]
        as_json = client.post(
            NATIVE, json={"instances": [{"b64": base64.b64encode(one[1][1]).decode()} for one in files]}
        ).json()
    assert [one["file"] for one in answer["predictions"]] == ["40.jpg", "60.jpg", "80.jpg"]
    assert [one["score"] for one in answer["predictions"]] == pytest.approx([one["score"] for one in alone], abs=1e-4)
    assert [one["score"] for one in as_json["predictions"]] == pytest.approx([one["score"] for one in alone], abs=1e-4)
    assert answer["usage"]["predictions"] == 3


@pytest.mark.parametrize(
    ("content", "content_type", "status"),
    [
        (b"no form", "multipart/form-data; boundary=X", 400),
        (b"--X--\r\n", "multipart/form-data; boundary=X", 400),
        (b"--X\r\nContent-Disposition: form-data; name=a\r\nContent-Type: text/html\r\n\r\nhi\r\n--X--\r\n",
         "multipart/form-data; boundary=X", 415),
        (b"--X\r\nContent-Disposition: form-data; name=a\r\nContent-Type: image/png\r\n\r\nhi\r\n--X--\r\n",
         "multipart/form-data; boundary=X", 400),
        (b"--X", "multipart/form-data", 400),
    ],
)  # fmt: skip
def test_bad_forms_get_words(plane: PlaneSite, content: bytes, content_type: str, status: int) -> None:
    with plane.client() as client:
        refused = client.post(NATIVE, content=content, headers={"Content-Type": content_type})
    assert refused.status_code == status, refused.text
    assert refused.headers["content-type"] == "application/problem+json"
