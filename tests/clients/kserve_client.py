"""KServe's own client, unmodified, asks a running server; what it saw is printed as JSON.

It runs in an environment of its own (`kserve.lock`), so it imports nothing of this project.
"""

import argparse
import asyncio
import json
import time
from collections.abc import Awaitable
from typing import Any

import httpx
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput

ROWS = {"instances": [[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]}
SAMPLES = {
    "BOOL": np.array([[True, False], [False, True]]),
    **{
        datatype: np.array([[np.iinfo(kind).min, np.iinfo(kind).max], [0, 1]], kind)
        for datatype, kind in (
            ("UINT8", "u1"), ("UINT16", "u2"), ("UINT32", "u4"), ("UINT64", "u8"),
            ("INT8", "i1"), ("INT16", "i2"), ("INT32", "i4"), ("INT64", "i8"),
        )
    },
    **{
        datatype: np.array([[np.finfo(kind).max, np.finfo(kind).tiny], [-0.0, 1 / 3]], kind)
        for datatype, kind in (("FP16", "f2"), ("FP32", "f4"), ("FP64", "f8"))
    },
    "BYTES": np.array([["größe".encode(), b""], [b"a", b"x" * 300]], object),
}  # fmt: skip


class Caller:
    """A client of one protocol, with the address and the key that it calls with."""

    def __init__(self, client: InferenceRESTClient, url: str, key: str, *, first: bool = False) -> None:
        self.client, self.url, self._key, self.first = client, url, key, first

    @property
    def headers(self) -> dict[str, str]:
        """Anew each time: the client writes into it."""
        return {"X-API-Key": self._key}

    async def infer(self, name: str, data: Any, headers: dict[str, str] | None = None) -> Any:
        return await self.client.infer(self.url, data, model_name=name, headers=headers or self.headers)

    async def is_ready(self, name: str) -> bool:
        return bool(await self.client.is_model_ready(self.url, name, headers=self.headers))


async def refused(call: Awaitable[Any]) -> str:
    """The words of the error that the client raises."""
    try:
        return f"not refused: {await call}"
    except httpx.HTTPStatusError as error:
        return str(error)


async def readiness(caller: Caller, name: str, asked: Any) -> list[bool]:
    """Whether a deployment is ready: after an answer, after its version was unloaded, and when it is loaded again."""
    await caller.infer(name, asked)
    warm = await caller.is_ready(name)
    httpx.post(f"{caller.url}/v2/repository/models/{name}/unload", headers=caller.headers).raise_for_status()
    cold = await caller.is_ready(name)
    deadline = time.monotonic() + 10
    while not await caller.is_ready(name) and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    return [warm, cold, await caller.is_ready(name)]


async def first_version(caller: Caller, key: str, name: str) -> dict[str, Any]:
    """What KServe V1 answers."""
    return {
        "live": await caller.client.is_server_live(caller.url),
        "ready": await readiness(caller, name, ROWS),
        "rows": await caller.infer(name, ROWS),
        "columns": await caller.infer(name, {"inputs": ROWS["instances"]}),
        "bearer": await caller.infer(name, ROWS, {"Authorization": f"Bearer {key}"}),
        "unknown model": await refused(caller.infer("nothing", ROWS)),
        "unknown model's readiness": await refused(caller.is_ready("nothing")),
        "bad shape": await refused(caller.infer(name, {"instances": [[1, 2]]})),
        "bad key": await refused(caller.infer(name, ROWS, {"X-API-Key": "nonsense"})),
        "explain": await refused(caller.client.explain(caller.url, name, ROWS, headers=caller.headers)),
    }


async def second_version(caller: Caller, key: str, name: str) -> dict[str, Any]:
    """What the Open Inference Protocol answers."""
    asked = request(name, "x", "FP32", rows())
    seen: dict[str, str] = {}
    found = await caller.client.infer(caller.url, asked, name, headers=caller.headers, response_headers=seen)
    wrong = {
        "unknown model": ("nothing", asked),
        "bad shape": (name, request(name, "x", "FP32", rows()[:, :3])),
        "bad shape in binary": (name, request(name, "x", "FP32", rows()[:, :3], binary=True)),
        "bad datatype": (name, request(name, "x", "FP64", rows().astype("f8"), binary=True)),
        "unknown output": (name, request(name, "x", "FP32", rows(), outputs={"z": {}})),
    }
    return {
        "live": await caller.client.is_server_live(caller.url),
        "server ready": await caller.client.is_server_ready(caller.url),
        "ready": await readiness(caller, name, asked),
        "unknown model's readiness": await caller.is_ready("nothing"),
        "about": [found.model_name, found.id, seen.get("x-request-id"), seen.get("ratelimit")],
        "bearer": (await caller.infer(name, asked, {"Authorization": f"Bearer {key}"})).outputs[0].data,
        "bad key": await refused(caller.infer(name, asked, {"X-API-Key": "nonsense"})),
        **{what: await refused(caller.infer(*call)) for what, call in wrong.items()},
    }


async def every_datatype(caller: Caller, prefix: str) -> dict[str, dict[str, Any]]:
    """Each datatype's samples, sent in JSON and in binary, and asked for in JSON, in binary, and all in binary."""
    ways: dict[str, dict[str, Any]] = {
        "json": {"outputs": {"out_x": {"binary_data": False}}, "parameters": {"binary_data_output": True}},
        "binary": {"outputs": {"out_x": {"binary_data": True}}},
        "all in binary": {"parameters": {"binary_data_output": True}},
    }
    seen: dict[str, dict[str, Any]] = {}
    for datatype, sample in SAMPLES.items():
        name = prefix + deployment_suffix(datatype, sample)
        about = seen[datatype] = {"sent": listed(sample)}
        for sent in ("json", "binary"):
            for wanted, how in ways.items():
                if datatype == "FP16" and "json" in (sent, wanted):
                    continue  # the client itself refuses it
                found = await caller.infer(name, request(name, "x", datatype, sample, binary=sent == "binary", **how))
                about[f"{sent} to {wanted}"] = listed(found.outputs[0].as_numpy())
    return seen


async def texts(caller: Caller, name: str) -> Any:
    """What a model of texts answers: one text a row, in JSON and in binary."""
    values = np.array([b"banana", b"sky"], object)
    if caller.first:
        return await caller.infer(name, {"instances": ["banana", "sky"]})
    found = []
    for binary in (False, True):
        asked = request(name, "text", "BYTES", values, binary=binary, parameters={"binary_data_output": binary})
        outputs = (await caller.infer(name, asked)).outputs
        found.append([listed(one.as_numpy()) for one in outputs])
    return found


def request(
    name: str,
    tensor: str,
    datatype: str,
    values: Any,
    *,
    binary: bool = False,
    outputs: dict[str, dict[str, Any]] | None = None,
    parameters: dict[str, Any] | None = None,
) -> Any:
    """A request about one tensor."""
    given = InferInput(tensor, list(values.shape), datatype)
    given.set_data_from_numpy(values, binary_data=binary)
    wanted = [RequestedOutput(one, parameters=how) for one, how in (outputs or {}).items()]
    return InferRequest(name, [given], request_id="my-id", request_outputs=wanted, parameters=parameters)


def rows() -> Any:
    return np.array(ROWS["instances"], "f4")


def deployment_suffix(datatype: str, sample: Any) -> str:
    """The dtype in the name of the deployment that gives it back."""
    return "bytes" if datatype == "BYTES" else str(sample.dtype)


def listed(tensor: Any) -> list[str]:
    """A tensor's shape, then each element's own bytes: nothing is rounded, no two values are taken for one."""
    elements = [one if isinstance(one, bytes) else str(one).encode() for one in tensor.ravel()]
    if tensor.dtype != object:
        elements = [one.tobytes() for one in tensor.ravel()]
    return [str(tensor.shape), *(one.hex() for one in elements)]


async def ask(arguments: argparse.Namespace) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    url, key = arguments.url, arguments.key
    async with InferenceRESTClient(RESTConfig(protocol="v1")) as client:
        caller = Caller(client, url, key, first=True)
        seen["v1"] = await first_version(caller, key, arguments.rows)
        seen["v1"]["texts"] = await texts(caller, arguments.texts)
    async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:
        caller = Caller(client, url, key)
        seen["v2"] = await second_version(caller, key, arguments.rows)
        seen["v2"]["texts"] = await texts(caller, arguments.texts)
        seen["datatypes"] = await every_datatype(caller, arguments.same)
    async with InferenceRESTClient(RESTConfig(protocol="v1", auth=httpx.BasicAuth("any", key))) as client:
        seen["v1"]["basic"] = await client.infer(url, ROWS, model_name=arguments.rows)
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(description="Asks a server as KServe's client does.")
    parser.add_argument("url", help="where it is, with its base path if it has one")
    parser.add_argument("key", help="an API key")
    parser.add_argument("rows", help="the deployment that gives back rows of four numbers, from `x` to `y`")
    parser.add_argument("same", help="what begins the names of the deployments that give back each dtype")
    parser.add_argument("texts", help="the deployment that counts the vowels of texts")
    print(json.dumps(asyncio.run(ask(parser.parse_args()))))


if __name__ == "__main__":
    main()
