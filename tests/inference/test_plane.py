"""The prediction plane as clients see it, over a real server."""

import base64
import io
import json
import socket
import threading
import time
import uuid

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.inference.conftest import PlaneSite
from tests.publishing import TINY, make_key, publish

ROWS = {"instances": [[1.0, 2.0, 3.0, 4.0]]}
PREDICT = "/v1/models/identity:predict"


def picture(form: str = "JPEG", size: tuple[int, int] = (200, 120)) -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, form)
    return buffer.getvalue()


def detail(answer: httpx.Response) -> str:
    body = answer.json()
    return str(body.get("detail") or body["error"])


def test_rows_and_columns_through_tensorflow_servings_protocol(plane: PlaneSite) -> None:
    with plane.client() as client:
        rows = client.post(PREDICT, json=ROWS)
        assert (rows.status_code, rows.json()) == (200, {"predictions": ROWS["instances"]})
        named = client.post(PREDICT, json={"signature_name": "serving_default", "instances": [{"x": [1, 2, 3, 4]}]})
        assert named.json() == {"predictions": [[1.0, 2.0, 3.0, 4.0]]}
        columns = client.post(PREDICT, json={"inputs": {"x": [[1, 2, 3, 4], [5, 6, 7, 8]]}})
        assert columns.json() == {"outputs": [[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]}


def test_paths_are_case_insensitive_and_may_be_percent_encoded(plane: PlaneSite) -> None:
    with plane.client() as client:
        for path in ("/V1/MODELS/identity:PREDICT", "/v1/models/identity%3Apredict"):
            assert client.post(path, json=ROWS).status_code == 200
        assert client.post("/v1/models/identity/versions/1:predict", json=ROWS).status_code == 200


def test_every_answer_carries_its_id_and_the_rate_limit(plane: PlaneSite) -> None:
    with plane.client() as client:
        answer = client.post(PREDICT, json=ROWS)
    assert uuid.UUID(answer.headers["x-request-id"]).version == 7
    assert '"minute";r=' in answer.headers["ratelimit"]
    assert '"minute";q=600000;w=60' in answer.headers["ratelimit-policy"]


def test_a_picture_is_answered_in_the_language_of_the_task(plane: PlaneSite) -> None:
    with plane.client() as client:
        for form in ("JPEG", "PNG", "WEBP"):
            sent = picture(form)
            answer = client.post(
                "/api/v1/deployments/cats/predict", content=sent, headers={"Content-Type": f"image/{form.lower()}"}
            )
            found = answer.json()
            assert answer.status_code == 200, found
            assert found["label"] in ("cat", "dog")
            assert sum(found["scores"].values()) == pytest.approx(1)
            assert found["scores"][found["label"]] == found["score"] >= 0.5
            assert (found["model"], found["version"]) == ("cats", 1)
            assert found["usage"] == {"predictions": 1, "input_bytes": len(sent)}
            assert found["request_id"] == answer.headers["x-request-id"]


def test_the_same_picture_scores_the_same_through_either_protocol(plane: PlaneSite) -> None:
    sent = picture("PNG")
    with plane.client() as client:
        native = client.post("/api/v1/deployments/cats/predict", content=sent, headers={"Content-Type": "image/png"})
        b64 = {"instances": [{"b64": base64.b64encode(sent).decode()}]}
        tensorflow = client.post("/v1/models/cats:predict", json=b64)
    assert tensorflow.json()["predictions"][0][0] == pytest.approx(native.json()["scores"]["dog"], abs=1e-6)


def test_pixel_rows_are_taken_as_the_model_takes_them(plane: PlaneSite) -> None:
    pixels = np.zeros((2, 150, 150, 3)).tolist()
    with plane.client() as client:
        answer = client.post("/v1/models/cats:predict", json={"instances": pixels})
    assert answer.status_code == 200
    assert np.array(answer.json()["predictions"]).shape == (2, 1)


def test_status_and_metadata(plane: PlaneSite) -> None:
    with plane.client() as client:
        status = client.get("/v1/models/identity").json()["model_version_status"]
        assert status == [{"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}]
        metadata = client.get("/v1/models/identity/metadata").json()
    assert metadata["model_spec"] == {"name": "identity", "signature_name": "", "version": "1"}
    definition = metadata["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert definition["inputs"]["x"]["dtype"] == "DT_FLOAT"
    assert [dim["size"] for dim in definition["inputs"]["x"]["tensor_shape"]["dim"]] == ["-1", "4"]


def test_no_rows_and_bare_tokens_are_answered(plane: PlaneSite) -> None:
    with plane.client() as client:
        assert client.post(PREDICT, content=b'{"instances": []}').content == b'{"predictions":[]}'
        answer = client.post("/v1/models/identity:predict", content=b'{"instances": [[NaN,Infinity,-Infinity,1]]}')
    assert answer.content == b'{"predictions":[[NaN,Infinity,-Infinity,1.0]]}'


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "not JSON"),
        (b"[]", "expected an object"),
        (b"{}", "exactly one of"),
        (b'{"instances": [[1,2,3,4]], "inputs": [[1,2,3,4]]}', "exactly one of"),
        (b'{"instances": [], "more": 1}', "unknown keys: more"),
        (b'{"instances": {"x": 1}}', "a list of rows"),
        (b'{"instances": [[1,2,3]]}', "float32 of shape [rows, 4]"),
        (b'{"instances": [[1,2,3,4],[1]]}', "ragged"),
        (b'{"instances": [[1,2,3,"4"]]}', "text"),
        (b'{"instances": [[1,2,3,null]]}', "nulls"),
        (b'{"instances": [[1,2,3,NAN]]}', "not JSON"),
        (b'{"instances": [[1,2,3,NaN]', "not JSON"),
        (b'{"instances": [[1,2,3,1e39]]}', "too large for float32"),
        (b'{"instances": [[1,2,3,4]], "signature_name": "other"}', "serving_default"),
        (b'{"inputs": {"z": [[1,2,3,4]]}}', "['x']"),
        (b'{"instances": [{"z": [1,2,3,4]}]}', "['x']"),
        (b"\xff\xfe", "not JSON"),
    ],
)
def test_bad_rows_get_words(plane: PlaneSite, body: bytes, words: str) -> None:
    with plane.client() as client:
        answer = client.post(PREDICT, content=body)
    assert answer.status_code == 400
    assert words in detail(answer)


def test_bad_pictures_get_words(plane: PlaneSite) -> None:
    bomb = io.BytesIO()
    Image.new("1", (40_000, 40_000)).save(bomb, "PNG")
    cases = [
        (picture()[:900], "cut short"),
        (b"not a picture", "no JPEG, PNG or WebP"),
        (b"", "empty"),
        (bomb.getvalue(), "1,600,000,000 pixels"),
    ]
    with plane.client() as client:
        for body, words in cases:
            answer = client.post(
                "/api/v1/deployments/cats/predict", content=body, headers={"Content-Type": "image/jpeg"}
            )
            assert answer.status_code == 400, answer.text
            assert answer.headers["content-type"] == "application/problem+json"
            assert words in detail(answer)
        wrong_type = client.post("/api/v1/deployments/cats/predict", content=b"x", headers={"Content-Type": "text/csv"})
        assert wrong_type.status_code == 415
        assert "image/" in detail(wrong_type)
        bad_b64 = client.post("/v1/models/cats:predict", json={"instances": [{"b64": "?"}]})
        assert bad_b64.status_code == 400


def test_unknown_paths_methods_and_versions(plane: PlaneSite) -> None:
    with plane.client() as client:
        assert client.post("/v1/models/nope:predict", json=ROWS).json() == {
            "error": "Servable not found for request: Latest(nope)"
        }
        assert client.post("/v1/models/identity:explain", json=ROWS).status_code == 404
        assert client.get(PREDICT).status_code == 405
        assert client.get("/api/v1/deployments/identity/predict").status_code == 405
        assert client.get("/v1/nothing").status_code == 404
        missing = client.post("/v1/models/identity/versions/7:predict", json=ROWS)
        assert (missing.status_code, detail(missing)) == (404, "Servable not found for request: Specific(identity, 7)")
        assert client.post("/v1/models/identity/labels/stable:predict", json=ROWS).status_code == 400


def test_a_foreign_deployment_is_exactly_like_a_missing_one(plane: PlaneSite) -> None:
    with plane.client(plane.globex_key) as client:
        for path in (
            "/v1/models/{}:predict",
            "/v1/models/{}",
            "/v1/models/{}/metadata",
            "/api/v1/deployments/{}/predict",
        ):
            method = "GET" if path.endswith(("{}", "metadata")) else "POST"
            foreign = client.request(method, path.format("identity"), json=ROWS)
            missing = client.request(method, path.format("nothing_"), json=ROWS)
            assert foreign.status_code == missing.status_code == 404
            assert foreign.text.replace("identity", "nothing_") == missing.text


def test_keys_are_taken_in_three_headers_and_bad_ones_refused(plane: PlaneSite) -> None:
    url = plane.site.url + PREDICT
    assert httpx.post(url, json=ROWS, headers={"X-API-Key": plane.acme_key}).status_code == 200
    assert httpx.post(url, json=ROWS, auth=("any", plane.acme_key)).status_code == 200
    answers = [
        httpx.post(url, json=ROWS, headers=headers)
        for headers in (
            {},
            {"Authorization": "Bearer nonsense"},
            {"Authorization": f"Bearer {plane.acme_key[:-1]}"},
            {"Authorization": "Basic ???"},
            {"X-API-Key": ""},
        )
    ]
    assert {answer.status_code for answer in answers} == {401}
    assert all(answer.headers["www-authenticate"] for answer in answers)
    narrow = make_key(plane.site, "acme", scopes="read")
    time.sleep(1)
    refused = httpx.post(url, json=ROWS, headers={"X-API-Key": narrow})
    assert (refused.status_code, "scope predict" in detail(refused)) == (403, True)


def test_a_revoked_key_is_refused_within_a_second(plane: PlaneSite) -> None:
    key = make_key(plane.site, "acme")
    with plane.client() as owner, plane.client(key) as client:
        deadline = time.monotonic() + 2
        while client.post(PREDICT, json=ROWS).status_code == 401 and time.monotonic() < deadline:
            time.sleep(0.02)
        ids = {row["prefix"]: row["id"] for row in owner.get("/api/v1/api-keys?limit=200").json()["results"]}
        (key_id,) = [found for prefix, found in ids.items() if key.startswith(prefix)]
        assert owner.delete(f"/api/v1/api-keys/{key_id}").status_code == 200
        revoked_at = time.monotonic()
        while client.post(PREDICT, json=ROWS).status_code == 200:
            assert time.monotonic() - revoked_at < 1
            time.sleep(0.01)


def test_pointing_a_deployment_elsewhere_changes_what_answers(plane: PlaneSite) -> None:
    publish(plane.site, tenant="acme", model="moving", path=plane.files["tiny.tflite"], deployment="moving", **TINY)
    publish(
        plane.site,
        tenant="acme",
        model="moving",
        path=plane.files["identity.tflite"],
        **TINY | {"outputs": ("y", (-1, 4))},
    )
    with plane.client() as client:
        before = client.post("/v1/models/moving:predict", json=ROWS).json()
        assert len(before["predictions"][0]) == 3
        assert client.patch("/api/v1/deployments/moving", json={"version": 2}).status_code == 200
        deadline = time.monotonic() + 5
        while len(client.post("/v1/models/moving:predict", json=ROWS).json()["predictions"][0]) == 3:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert client.delete("/api/v1/deployments/moving").status_code == 204
        while client.post("/v1/models/moving:predict", json=ROWS).status_code == 200:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert client.post("/v1/models/moving:predict", json=ROWS).status_code == 404


def test_a_body_over_the_limit_is_refused(plane: PlaneSite) -> None:
    with plane.client() as client:
        answer = client.post(PREDICT, content=b" " * (16 * 1024**2 + 1))
        assert answer.status_code == 413
        assert "16,777,216" in detail(answer)
        chunked = client.post(PREDICT, content=(b" " * 2**20 for _ in range(17)))
        assert chunked.status_code == 413
        too_many = client.post(PREDICT, json={"instances": [[0, 0, 0, 0]] * 5000})
        assert (too_many.status_code, "5,000 rows" in detail(too_many)) == (413, True)


def test_compressed_bodies(plane: PlaneSite) -> None:
    import gzip

    with plane.client() as client:
        sent = gzip.compress(json.dumps(ROWS).encode())
        assert client.post(PREDICT, content=sent, headers={"Content-Encoding": "gzip"}).status_code == 200
        bomb = gzip.compress(b" " * 17 * 2**20)
        assert client.post(PREDICT, content=bomb, headers={"Content-Encoding": "gzip"}).status_code == 413
        for content, encoding, status in ((sent[:-4], "gzip", 400), (b"x", "gzip", 400), (sent, "br", 415)):
            assert client.post(PREDICT, content=content, headers={"Content-Encoding": encoding}).status_code == status


def test_deadlines(plane: PlaneSite) -> None:
    with plane.client() as client:
        late = client.post(
            "/api/v1/deployments/cats/predict",
            content=picture(),
            headers={"Content-Type": "image/jpeg", "X-Request-Timeout": "0.00001"},
        )
        assert (late.status_code, "deadline" in detail(late)) == (504, True)
        for wrong in ("soon", "-1", "nan", "0"):
            answer = client.post(PREDICT, json=ROWS, headers={"X-Request-Timeout": wrong})
            assert (answer.status_code, "X-Request-Timeout" in detail(answer)) == (400, True)


def test_a_body_cut_in_the_middle_harms_nobody(plane: PlaneSite) -> None:
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nX-API-Key: {plane.acme_key}\r\nContent-Length: 1000\r\n\r\n"
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", plane.site.port)) as caller:
            caller.sendall(head.encode() + b'{"instances": [[1')
    with plane.client() as client:
        assert client.post(PREDICT, json=ROWS).status_code == 200


def test_answers_belong_to_their_questions_under_load(plane: PlaneSite) -> None:
    wrong: list[object] = []

    def ask(caller: int) -> None:
        with plane.client() as client:
            for number in range(60):
                row = [float(caller), float(number), 0.5, -1.0]
                answer = client.post(PREDICT, json={"instances": [row] * (1 + number % 40)})
                if answer.status_code != 200 or answer.json()["predictions"] != [row] * (1 + number % 40):
                    wrong.append((row, answer.text[:100]))

    threads = [threading.Thread(target=ask, args=(caller,)) for caller in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_callers_that_leave_wedge_nobody(plane: PlaneSite) -> None:
    body = picture()
    head = (
        "POST /api/v1/deployments/cats/predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"
        f"X-API-Key: {plane.acme_key}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    for _ in range(100):
        with socket.create_connection(("127.0.0.1", plane.site.port)) as caller:
            caller.sendall(head.encode() + body)
    with plane.client() as client:
        answer = client.post("/api/v1/deployments/cats/predict", content=body, headers={"Content-Type": "image/jpeg"})
    assert answer.status_code == 200


def test_what_was_just_deployed_answers_at_once(plane: PlaneSite) -> None:
    with plane.client() as client:
        for number in range(20):
            name = f"quick-{number}"
            made = client.post("/api/v1/deployments", json={"name": name, "model": "identity", "version": 1})
            assert made.status_code == 201
            assert client.post(f"/v1/models/{name}:predict", json=ROWS).status_code == 200
