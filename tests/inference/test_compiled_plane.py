"""The compiled prediction plane: taken whole or not at all, and its answers are those of the sources."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from aiaas_site import compiled, compiling
from inference import batching
from inference.plane import settling
from modelhub import pictures
from tests.inference.compiled_modules import refusals
from tests.inference.conftest import PlaneSite
from tests.live import ROOT, free_port

assert batching  # one of the compiled modules, imported from its source before anything is taken


def needs_compiled() -> None:
    """Skips where nothing is compiled, or from other sources; the project's own checks (CI=1) fail then."""
    if compiled.digest_of_compiled() != compiled.digest():
        lacking = compiling.missing() or "the sources are not those that were compiled: run make compiled"
        assert not os.environ.get("CI"), lacking
        pytest.skip(lacking)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for compiled modules; what is taken from it is let go."""
    before = sys.meta_path[:]
    monkeypatch.setattr(compiled, "FOLDER", tmp_path)
    yield tmp_path
    assert sys.meta_path == before
    sys.meta_path[:] = before


def made_of(folder: Path, digest: str) -> None:
    (folder / compiled.MANIFEST).write_text(json.dumps({"digest": digest, "files": {}}))


def test_without_compiled_modules_the_sources_run(folder: Path) -> None:
    assert compiled.take() == "from its sources (`make compiled` makes it quicker)"


def test_what_was_compiled_from_other_sources_is_not_taken(folder: Path) -> None:
    made_of(folder, "of other sources")
    assert "not those that were compiled" in compiled.take()


def test_modules_that_are_there_already_are_not_mixed_with_compiled_ones(folder: Path) -> None:
    made_of(folder, compiled.digest())
    assert "imported already: inference.batching" in compiled.take()


def test_an_operator_can_turn_it_off(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made_of(folder, compiled.digest())
    monkeypatch.setenv("COMPILED", "off")
    assert compiled.take() == "from its sources (COMPILED=off)"


def test_any_change_of_a_source_makes_another_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "ROOT", tmp_path)
    first, second = tmp_path / "inference" / "one.py", tmp_path / "tenants" / "deep" / "two.py"
    for file in (first, second):
        file.parent.mkdir(parents=True)
    found = set()
    for one, two in (("a", "b"), ("b", "a"), ("a", "a"), ("", "ab"), ("a\n", "b")):
        first.write_text(one)
        second.write_text(two)
        found.add(compiled.digest())
    first.rename(first.with_name("three.py"))
    assert len(found | {compiled.digest()}) == 6


def test_what_is_missing_to_compile_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    assert "Python.h" in compiling.missing()
    monkeypatch.setenv("PATH", "")
    assert "no C compiler" in compiling.missing()


def test_without_a_compiler_it_fails_unless_that_was_foreseen(tmp_path: Path) -> None:
    def status(*options: str) -> tuple[int, str]:
        code = (
            "import sys; from pathlib import Path; from aiaas_site import compiled, compiling\n"
            f"compiled.FOLDER = Path({str(tmp_path / 'compiled')!r})\n"
            f"sys.argv = ['compiling', *{list(options)!r}]; compiling.main()"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env=os.environ | {"PATH": ""}, capture_output=True, text=True
        )
        return done.returncode, done.stderr

    for options, expected in (((), 1), (("--if-possible",), 0)):
        code, said = status(*options)
        assert (code, "not compiled" in said) == (expected, True), said
    assert not list(tmp_path.iterdir())


def test_a_server_takes_every_module_compiled() -> None:
    """And no compiled class derives from one of a library: how large such an object is, the compiler cannot tell."""
    needs_compiled()
    done = subprocess.run(
        [sys.executable, "-m", "tests.inference.compiled_modules"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    made, found, said = json.loads(done.stdout)
    assert made == "compiled"
    assert found.keys() == set(compiled.MODULES)
    for file, bases in found.values():
        assert Path(file).is_relative_to(compiled.FOLDER)
        assert set(bases) <= {"builtins", "typing", "inference", "modelhub", "tenants"}
    here = refusals()
    both = said.keys() & here.keys()
    of_compiled = {f"{one.__module__}.{one.__qualname__}" for one in (settling.Fault, pictures.NotAPicture)}
    assert of_compiled <= both
    assert {name: said[name] for name in both} == {name: here[name] for name in both}


def asked(plane: PlaneSite) -> list[tuple[str, str, dict[str, str], bytes]]:
    """Method, path, headers and body of requests that take every turning of the way."""
    key = {"Authorization": f"Bearer {plane.acme_key}"}
    rows = b'{"instances":[[1.5,2,3,4]]}'
    tensor = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1.5, 2, 3, 4]}
    return [
        ("POST", "/v1/models/identity:predict", key, rows),
        ("POST", "/v1/models/identity:predict", key, b'{"inputs":[[1,2,3,4],[5,6,7,8]]}'),
        ("POST", "/v1/models/identity:predict", key, b'{"instances":[[NaN,Infinity,-Infinity,0]]}'),
        ("POST", "/v1/models/identity:predict", key, b'{"instances":[]}'),
        ("POST", "/v1/models/identity:predict", key, b'{"instances":[' + b",".join([b"[1,2,3,4]"] * 500) + b"]}"),
        ("POST", "/v1/models/identity:predict", key, b'{"instances":[[1,2,3]]}'),
        ("POST", "/v1/models/identity:predict", key, b'{"instances":[["a",2,3,4]]}'),
        ("POST", "/v1/models/identity:predict", key, b'{"instances":[[1e999,2,3,4]]}'),
        ("POST", "/v1/models/identity:predict", key, b"no JSON"),
        ("POST", "/v1/models/identity:regress", key, b'{"examples":[{"x":[1,2,3,4]}]}'),
        ("POST", "/v1/models/identity/versions/7:predict", key, rows),
        ("POST", "/v1/models/identity/labels/stable:predict", key, rows),
        ("POST", "/v1/models/nothing:predict", key, rows),
        ("POST", "/v1/models/identity:predict", {}, rows),
        ("POST", "/v1/models/identity:predict", {"X-API-Key": "wrong"}, rows),
        ("POST", "/v1/models/identity:predict", key | {"X-Request-Timeout": "-1"}, rows),
        ("POST", "/v1/models/identity:predict", key | {"X-Request-Timeout": "5"}, rows),
        ("POST", "/v1/models/identity:predict", key | {"Content-Encoding": "gzip"}, rows),
        ("POST", "/v2/models/identity/infer", key, json.dumps({"id": "a", "inputs": [tensor]}).encode()),
        ("POST", "/v2/models/identity/infer", key, json.dumps({"inputs": [tensor | {"shape": [9]}]}).encode()),
        ("POST", "/api/v1/deployments/cats/predict", key | {"Content-Type": "image/jpeg"}, b"no picture"),
        ("POST", "/api/v1/deployments/identity/predict", key | {"Content-Type": "application/json"}, rows),
        ("GET", "/v1/models/identity", key, b""),
        ("GET", "/v1/models/identity/metadata", key, b""),
        ("PUT", "/v1/models/identity:predict", key, rows),
        ("GET", "/v2", key, b""),
    ]


def answers_of(url: str, requests: list[tuple[str, str, dict[str, str], bytes]]) -> list[tuple[int, Any]]:
    found = []
    with httpx.Client(base_url=url, timeout=30) as client:
        for method, path, headers, body in requests:
            answer = client.request(method, path, headers=headers, content=body)
            names = sorted(name for name in answer.headers if name != "ratelimit")
            body = answer.content.replace(answer.headers["x-request-id"].encode(), b"ID")
            found.append((answer.status_code, (names, body)))
    return found


def test_compiled_or_not_the_answers_are_the_same(plane: PlaneSite) -> None:
    needs_compiled()
    requests, found = asked(plane), []
    for setting in ("on", "off"):
        server = plane.site.start_server(port=(port := free_port()), module="tests.recipe_server", COMPILED=setting)
        found.append([answers_of(f"http://127.0.0.1:{port}", requests) for _ in range(2)])
        server.terminate()
        assert server.wait(30) == 0
    on, off = found
    assert on[0] == on[1] == off[0] == off[1]
    statuses = [status for status, _ in on[0]]
    assert {200, 400, 401, 404, 405} <= set(statuses) <= {200, 400, 401, 404, 405, 415}
    assert statuses[:5] == [200] * 5
