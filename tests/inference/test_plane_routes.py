"""Every route of the plane by every kind of caller. A route without a row here fails the test."""

import json
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from inference.plane import routes
from inference.plane.routes import ROUTES
from inference.protocols.base import Route
from tests.inference.conftest import PlaneSite
from tests.publishing import make_key

ROWS = {"instances": [[1, 2, 3, 4]]}
TENSOR = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}


@dataclass(frozen=True)
class Row:
    """A request of a route, and what its tenant is answered; `{name}` in the path is a deployment."""

    method: str
    path: str
    status: int = 200
    body: Any = None
    public: bool = False

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


TABLE = (
    Row("POST", "/api/v1/deployments/{name}/predict", body=ROWS),
    Row("GET", "/api/v1/deployments/{name}/shadow", status=404),
    Row("POST", "/v1/models/{name}:predict", body=ROWS),
    Row("POST", "/v1/models/{name}:classify", body={"examples": [{"x": [1, 2, 3, 4]}]}),
    Row("POST", "/v1/models/{name}:regress", status=400, body={"examples": [{"x": [1, 2, 3, 4]}]}),
    Row("POST", "/v1/models/{name}:explain", status=404, body={}),
    Row("POST", "/v1/models/some/versions/1/labels/any:predict", status=400, body=ROWS),
    Row("GET", "/v1/models/some/versions/1/labels/any", status=400),
    Row("GET", "/", public=True),
    Row("GET", "/v1/models"),
    Row("GET", "/v1/models/{name}"),
    Row("GET", "/v1/models/{name}/metadata"),
    Row("POST", "/v2/models/{name}/infer", body=TENSOR),
    Row("GET", "/v2", public=True),
    Row("GET", "/v2/health/live", public=True),
    Row("GET", "/v2/health/ready", public=True),
    Row("GET", "/v2/models/stats"),
    Row("GET", "/v2/models/{name}"),
    Row("GET", "/v2/models/{name}/ready"),
    Row("GET", "/v2/models/{name}/config"),
    Row("GET", "/v2/models/{name}/stats"),
    Row("POST", "/v2/repository/index", body={}),
    Row("POST", "/v2/repository/models/{name}/load", body={}),
    Row("POST", "/v2/repository/models/{name}/unload", body={}),
    Row("GET", "/v2/logging", status=501),
    Row("POST", "/v2/logging", status=501, body={}),
)


def ask(plane: PlaneSite, row: Row, name: str, key: str | None) -> httpx.Response:
    headers = {"X-API-Key": key} if key else {}
    url = plane.site.url + row.path.format(name=name)
    return httpx.request(row.method, url, json=row.body, headers=headers, timeout=30)


def route_of(row: Row) -> Route:
    return routes.find(row.method, row.path.format(name="some")).route


def test_every_route_has_a_row() -> None:
    assert {id(route_of(row)) for row in TABLE} == {id(route) for route in ROUTES}
    assert {str(row) for row in TABLE if row.public} == {str(row) for row in TABLE if route_of(row).public}


@pytest.fixture(scope="module")
def reader(plane: PlaneSite) -> str:
    return make_key(plane.site, "acme", scopes="read")


@pytest.mark.parametrize("row", TABLE, ids=str)
def test_who_may(plane: PlaneSite, reader: str, row: Row) -> None:
    found = {
        caller: ask(plane, row, "identity", key).status_code
        for caller, key in (("nobody", None), ("reader", reader), ("acme", plane.acme_key))
    }
    refused = {"nobody": 401, "reader": 403} if not row.public else {"nobody": row.status, "reader": row.status}
    assert found == refused | {"acme": row.status}


@pytest.mark.parametrize("row", [row for row in TABLE if "{name}" in row.path], ids=str)
def test_foreign_is_missing(plane: PlaneSite, row: Row) -> None:
    foreign, missing = (ask(plane, row, name, plane.globex_key) for name in ("identity", "idontity"))
    assert foreign.status_code == missing.status_code == 404
    assert foreign.text.replace("identity", "idontity") == missing.text
    assert foreign.headers.keys() == missing.headers.keys()


@pytest.mark.parametrize("row", [row for row in TABLE if "{name}" not in row.path], ids=str)
def test_what_names_nothing_tells_nothing_of_another(plane: PlaneSite, row: Row) -> None:
    text = ask(plane, row, "", plane.globex_key).text
    assert not [word for word in ("identity", "tiny", "cats", "acme") if word in json.dumps(text)]
