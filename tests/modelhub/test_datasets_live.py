"""Uploads to a real server: senders that go away, a server that is killed."""

import signal
import socket
import time
from pathlib import Path
from typing import Any

import httpx

from tests.live import LiveSite
from tests.modelhub import zips
from tests.modelhub.uploading import api, site

BODY = zips.packed(zips.good(train=40))

__all__ = ["api", "site"]


def create(api: httpx.Client, name: str) -> str:
    return str(api.post("/datasets", json={"name": name, "kind": "image-classification"}).json()["id"])


def begin(site: LiveSite, dataset: str, sent: int) -> socket.socket:
    """A connection on which an upload has begun, and so many of its bytes were sent."""
    connection = socket.create_connection(("127.0.0.1", site.port))
    head = (
        f"PUT /api/v1/datasets/{dataset}/content HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/zip\r\n"
        f"Authorization: Bearer {site.env['TEST_KEY']}\r\nContent-Length: {len(BODY)}\r\n\r\n"
    )
    connection.sendall(head.encode() + BODY[:sent])
    return connection


def wait_for(api: httpx.Client, dataset: str, state: str) -> Any:
    deadline = time.monotonic() + 10
    while (row := api.get(f"/datasets/{dataset}").json())["state"] != state:
        assert time.monotonic() < deadline, row
        time.sleep(0.02)
    return row


def leftovers(site: LiveSite) -> list[Path]:
    return [path for place in ("scratch", "files/incoming") for path in (site.var / place).rglob("*.zip")]


def wait_for_leftovers(site: LiveSite) -> None:
    """The file is begun soon after its upload is said to be received."""
    deadline = time.monotonic() + 10
    while not leftovers(site):
        assert time.monotonic() < deadline, "nothing of what was sent lies anywhere"
        time.sleep(0.02)


def test_senders_that_go_away_and_a_server_that_is_killed(site: LiveSite, api: httpx.Client) -> None:
    server = site.start_server()
    dataset = create(api, "cut")
    connection = begin(site, dataset, 1000)
    assert wait_for(api, dataset, "uploading")["progress"]["phase"] == "receiving"
    wait_for_leftovers(site)
    connection.close()
    assert wait_for(api, dataset, "created")["progress"] == {}
    assert not leftovers(site)

    connection = begin(site, dataset, 2000)
    wait_for(api, dataset, "uploading")
    server.send_signal(signal.SIGKILL)
    server.wait()
    connection.close()
    site.start_server()
    assert api.get(f"/datasets/{dataset}").json()["state"] == "uploading"
    answer = api.put(f"/datasets/{dataset}/content", content=BODY, headers={"Content-Type": "application/zip"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["items"] == 84

    chunked = api.put(f"/datasets/{dataset}/content", content=iter([BODY]), headers={"Content-Type": "application/zip"})
    assert chunked.status_code == 411
    assert wait_for(api, dataset, "checked")["items"] == 84
