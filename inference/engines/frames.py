"""Tensors over a socket between the plane and an engine's process: a length, JSON that describes, then the bytes.

Nothing of what comes back is executed: the process runs a customer's graph.
"""

import socket
import struct
from dataclasses import dataclass, field
from typing import Any

import orjson

from inference import tensor_bytes
from inference.engines.base import Tensor, Tensors
from modelhub.signatures import BYTES

LENGTHS = struct.Struct("<II")


@dataclass(frozen=True, slots=True)
class Frame:
    """Tensors by name, or an error; `of_sender` says that the input was at fault."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    error: str = ""
    of_sender: bool = False


def send(line: socket.socket, tensors: Tensors, *, error: str = "", of_sender: bool = False) -> None:
    """Writes a frame whole."""
    parts = [tensor_bytes.encode(tensor) for tensor in tensors.values()]
    described = [
        {"name": name, "dtype": _dtype(tensor), "shape": list(tensor.shape), "size": len(part)}
        for (name, tensor), part in zip(tensors.items(), parts, strict=True)
    ]
    head = orjson.dumps({"tensors": described, "error": error, "of_sender": of_sender})
    line.sendall(b"".join((LENGTHS.pack(len(head), sum(map(len, parts))), head, *parts)))


def receive(line: socket.socket) -> Frame:
    """Reads a frame whole. Raises EOFError when the other side has gone."""
    head_size, size = LENGTHS.unpack(_read(line, LENGTHS.size))
    head: dict[str, Any] = orjson.loads(_read(line, head_size))
    body = memoryview(_read(line, size))
    tensors, at = {}, 0
    for one in head["tensors"]:
        data = body[at : at + one["size"]]
        at += one["size"]
        tensors[one["name"]] = tensor_bytes.decode(
            data, dtype=one["dtype"], shape=tuple(one["shape"]), name=one["name"]
        )
    return Frame(tensors, head["error"], head["of_sender"])


def _read(line: socket.socket, size: int) -> bytearray:
    buffer = bytearray(size)
    view = memoryview(buffer)
    while view:
        got = line.recv_into(view)
        if not got:
            raise EOFError
        view = view[got:]
    return buffer


def _dtype(tensor: Tensor) -> str:
    return BYTES if tensor.dtype.kind in "OS" else tensor.dtype.name
