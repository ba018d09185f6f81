"""The peers: how each is started, what its requests look like, and which settings it is tried with.

Each setting is one that the peer's documentation recommends for a processor: two processes (or instances) with one
engine thread each, and its dynamic batching, up to 8 rows (for the tiny model up to 32 as well) with a wait of a
millisecond, the shortest that all can be told; or two processes without batching, where nobody waits for others. Every
row is measured with the setting that did best in a trial of it.
"""

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson

from benchmarks import load, payloads
from benchmarks.peers.answers import Read, binary, flat

WORKS = {"tiny": ("tiny-json",), "cnn": ("cnn-jpeg", "cnn-tensor")}
JSON, OCTETS, JPEG = "application/json", "application/octet-stream", "image/jpeg"


@dataclass(frozen=True, slots=True)
class Setting:
    """How many processes run the engine, how many rows make a batch, and how long the first of them waits."""

    workers: int
    batch: int
    wait_ms: int

    def __str__(self) -> str:
        batching = f"batches of {self.batch}, wait {self.wait_ms} ms" if self.batch > 1 else "no batching"
        return f"{self.workers} worker{'s' if self.workers > 1 else ''}, {batching}"


@dataclass(frozen=True, slots=True)
class Sent:
    """One request, and how its answer is read."""

    path: str
    body: bytes
    content_type: str
    read: Read
    headers: Mapping[str, str] = field(default_factory=dict)

    def prepared(self) -> bytes:
        return load.request(self.path, "", self.body, self.content_type, headers=self.headers)


@dataclass(frozen=True, slots=True)
class Peer:
    """A server of models: the lock it is installed from, its command after the Python, and its requests by work."""

    name: str
    lock: str
    package: str
    command: tuple[str, ...]
    sent: Mapping[str, Sent]
    settings: Mapping[str, tuple[Setting, ...]]


EAGER, BATCHED, IN_PROCESS = Setting(2, 1, 0), Setting(2, 8, 1), Setting(1, 8, 1)
LARGER = Setting(2, 32, 1)
USUAL = {"tiny": (EAGER, BATCHED, LARGER), "cnn": (EAGER, BATCHED)}


def peers(picture: bytes) -> tuple[Peer, ...]:
    """All of them, with requests for this picture."""
    pixels = payloads.pixels().tobytes()
    return (
        Peer("mosec", "mosec", "mosec", _program("mosec"), _plain("/inference", picture, pixels), USUAL),
        Peer("triton", "pytriton", "nvidia-pytriton", _program("triton"), _triton(picture), USUAL),
        Peer("pytriton", "pytriton", "nvidia-pytriton", _program("pytriton"), _triton(picture), USUAL),
        Peer("litserve", "litserve", "litserve", _program("litserve"), _plain("/predict", picture, pixels),
             USUAL),
        Peer("mlserver", "mlserver", "mlserver", _program("mlserver"), _mlserver(picture, pixels),
             {"tiny": (BATCHED, IN_PROCESS), "cnn": (BATCHED, IN_PROCESS)}),
        Peer("bentoml", "bentoml", "bentoml",
             ("-m", "bentoml", "serve", "benchmarks.peers.programs.bentoml:Models", "--host", "127.0.0.1",
              "--port", "{port}"),
             _bentoml(picture, pixels), USUAL),
    )  # fmt: skip


def _program(name: str) -> tuple[str, ...]:
    return ("-m", f"benchmarks.peers.programs.{name}")


def _plain(path: str, picture: bytes, pixels: bytes) -> dict[str, Sent]:
    """A row as JSON, a picture and a tensor as nothing but their bytes."""
    scores = flat("scores")
    return {
        "tiny-json": Sent(path, orjson.dumps({"row": payloads.TINY_ROW}), JSON, scores),
        "cnn-jpeg": Sent(path, picture, OCTETS, scores),
        "cnn-tensor": Sent(path, pixels, OCTETS, scores),
    }


def _triton(picture: bytes) -> dict[str, Sent]:
    """The Open Inference Protocol: JSON for a row, the binary extension for a picture (a string) and a tensor."""
    string = len(picture).to_bytes(4, "little") + picture
    jpeg, jpeg_headers = payloads.binary_tensor("jpeg", "BYTES", [1, 1], string)
    tensor, tensor_headers = payloads.pixels_tensor()
    return {
        "tiny-json": Sent("/v2/models/tiny/infer", _row(), JSON, flat("outputs", 0, "data")),
        "cnn-jpeg": Sent("/v2/models/jpeg/infer", jpeg, OCTETS, binary, jpeg_headers),
        "cnn-tensor": Sent("/v2/models/tensor/infer", tensor, OCTETS, binary, tensor_headers),
    }


def _mlserver(picture: bytes, pixels: bytes) -> dict[str, Sent]:
    """The Open Inference Protocol in JSON; MLServer has no binary extension over HTTP, base64 is its shortest way."""
    path, scores = "/v2/models/model/infer", flat("outputs", 0, "data")

    def encoded(data: bytes) -> bytes:
        return _open_inference("picture", "BYTES", [1, 1], [b64encode(data).decode()])

    return {
        "tiny-json": Sent(path, _row(), JSON, scores),
        "cnn-jpeg": Sent(path, encoded(picture), JSON, scores),
        "cnn-tensor": Sent(path, encoded(pixels), JSON, scores),
    }


def _bentoml(picture: bytes, pixels: bytes) -> dict[str, Sent]:
    """JSON; pictures and tensors in base64, since a form's files are written to disk first."""

    def encoded(data: bytes) -> bytes:
        return orjson.dumps({"pictures": [b64encode(data).decode()]})

    return {
        "tiny-json": Sent("/tiny", orjson.dumps({"rows": [payloads.TINY_ROW]}), JSON, flat()),
        "cnn-jpeg": Sent("/cnn", encoded(picture), JSON, flat()),
        "cnn-tensor": Sent("/cnn", encoded(pixels), JSON, flat()),
    }


def _row() -> bytes:
    return _open_inference("x", "FP32", [1, 4], payloads.TINY_ROW)


def _open_inference(name: str, datatype: str, shape: list[int], data: list[float] | list[str]) -> bytes:
    return orjson.dumps({"inputs": [{"name": name, "shape": shape, "datatype": datatype, "data": data}]})
