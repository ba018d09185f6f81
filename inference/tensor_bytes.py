"""Tensors as the bytes of the Open Inference Protocol's binary extension: little-endian, row by row."""

import struct
from math import prod

import numpy as np

from inference.engines.base import Tensor
from modelhub.signatures import BYTES
from tenants.errors import Invalid

DATATYPES = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
    BYTES: "BYTES",
}
DTYPES = {datatype: dtype for dtype, datatype in DATATYPES.items()}
LITTLE_ENDIAN = {dtype: np.dtype(dtype).newbyteorder("<") for dtype in DATATYPES if dtype != BYTES}
LENGTH = struct.Struct("<I")


def decode(data: memoryview, *, dtype: str, shape: tuple[int, ...], name: str) -> Tensor:
    """The tensor that these bytes hold, without a copy where that can be. Raises Invalid."""
    count = prod(shape)
    if dtype == BYTES:
        return _texts(data, count, name).reshape(shape)
    kind = LITTLE_ENDIAN[dtype]
    if len(data) != count * kind.itemsize:
        raise Invalid(
            f"inputs.{name}: got {len(data):,} bytes; {DATATYPES[dtype]} of shape {list(shape)} has "
            f"{count * kind.itemsize:,}."
        )
    if dtype == "bool":
        return np.not_equal(np.frombuffer(data, np.uint8), 0).reshape(shape)
    return np.ndarray(shape, kind, data)


def encode(tensor: Tensor) -> bytes:
    """The bytes of a tensor."""
    if tensor.dtype.kind == "O":
        return b"".join([LENGTH.pack(len(one)) + one for one in texts(tensor)])
    return tensor.astype(tensor.dtype.newbyteorder("<"), copy=False).tobytes()


def texts(tensor: Tensor) -> list[bytes]:
    """The elements of a tensor of strings, as bytes, row by row."""
    return [one if isinstance(one, bytes) else str(one).encode() for one in tensor.ravel()]


def _texts(data: memoryview, count: int, name: str) -> Tensor:
    found = np.empty(_bounded(count, len(data), name), object)
    at = 0
    for number in range(count):
        end = at + LENGTH.size
        if end > len(data):
            raise Invalid(f"inputs.{name}: the bytes end within element {number} of {count}.")
        (length,) = LENGTH.unpack(data[at:end])
        at = end + length
        if at > len(data):
            raise Invalid(f"inputs.{name}: element {number} has {length:,} bytes, but {len(data) - end:,} are left.")
        found[number] = bytes(data[end:at])
    if at != len(data):
        raise Invalid(f"inputs.{name}: {len(data) - at:,} bytes are left after the last of {count} elements.")
    return found


def _bounded(count: int, size: int, name: str) -> int:
    """A count that these bytes may hold: each element has a length of 4 bytes."""
    if count * LENGTH.size > size:
        raise Invalid(f"inputs.{name}: {count:,} elements need {count * LENGTH.size:,} bytes or more; got {size:,}.")
    return count
