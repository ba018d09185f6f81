"""Our own server as every benchmark starts it: authentication, quota and metering on, both models deployed."""

import subprocess
import time
from pathlib import Path

import httpx
import numpy as np
import psutil

from benchmarks import load, payloads
from tests.live import LiveSite
from tests.publishing import CNN, TINY, make_key, publish

# On two processors two processes are faster than one: each has a Python lock of its own.
PROCESSES = max(1, min(4, psutil.cpu_count() or 1))
TINY_BODY = b'{"instances":[[1.0,2.0,3.0,4.0]]}'


def opened(site: LiveSite, files: dict[str, Path], picture: bytes) -> dict[str, bytes]:
    """Starts the server with both models deployed; gives the request of each kind of work."""
    site.manage("create_tenant", "bench")
    lift_limits(site)
    publish_both(site, "bench", files)
    key = make_key(site, "bench")
    start(site)
    wait_until_answering(site, key)
    body, headers = payloads.pixels_tensor()
    return {
        "tiny-json": load.request("/v1/models/tiny:predict", key, TINY_BODY, "application/json"),
        "cnn-jpeg": load.request("/api/v1/deployments/cats/predict", key, picture, "image/jpeg"),
        "cnn-tensor": load.request("/v2/models/cats/infer", key, body, "application/octet-stream", headers=headers),
    }


def publish_both(site: LiveSite, tenant: str, files: dict[str, Path]) -> None:
    """Deploys the tiny model and the seed CNN for a tenant."""
    publish(site, tenant=tenant, model="tiny", path=files["tiny.tflite"], deployment="tiny", **TINY)
    publish(site, tenant=tenant, model="cats", path=files["cnn.int8.tflite"], deployment="cats", **CNN)


def start(site: LiveSite) -> subprocess.Popen[bytes]:
    """The server's processes, ready; says how long that took and what they hold."""
    started = time.perf_counter()
    process = site.start_server(processes=PROCESSES)
    held = sum(one.memory_info().rss for one in psutil.Process(process.pid).children(recursive=True))
    print(f"{PROCESSES} server processes: start {time.perf_counter() - started:.2f} s, "
          f"{held / 1e6:.0f} MB when they answer")  # fmt: skip
    return process


def lift_limits(site: LiveSite) -> None:
    """A plan whose limits no benchmark reaches; they are counted all the same."""
    site.python(
        "from tenants.models import Plan\n"
        "Plan.objects.filter(code='standard').update(predictions_per_minute=10**9, predictions_per_month=10**11)\n"
        "print(1)"
    )


def wait_until_answering(site: LiveSite, key: str) -> None:
    """Both deployments of the key's tenant answer."""
    for name, row in (("tiny", payloads.TINY_ROW), ("cats", np.zeros(payloads.PICTURE).tolist())):
        answer = httpx.post(
            f"{site.url}/v1/models/{name}:predict",
            json={"instances": [row]},
            headers={"Authorization": f"Bearer {key}"},
            timeout=30,
        )
        assert answer.status_code == 200, answer.text
