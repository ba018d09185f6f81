"""The Open Inference Protocol v2 as Triton's and KServe's clients speak it: infer, with its binary extension."""

import gzip
import zlib
from collections.abc import Mapping
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import orjson

from inference import tensor_bytes
from inference.engines.base import Tensor, Tensors
from inference.plane.versions import LoadedVersion
from inference.protocols.base import Call, PredictRequest, as_array, as_numbers, as_texts, check_shape, parse_json
from inference.work import Reply
from modelhub.signatures import BYTES, TensorSpec
from tenants.errors import Invalid, Refusal

JSON_LENGTH = b"inference-header-content-length"
OCTETS = b"application/octet-stream"
MAX_DIMENSION = 2**31


class OpenInference:
    """`infer`, in JSON or with tensors as bytes, either way."""

    def parse(self, request: PredictRequest, version: LoadedVersion) -> Call:
        document, tail = _split(request)
        batched = version.batched
        if document is None:
            inputs = {version.entry.signature.inputs[0].name: _raw_body(tail, version)}
            asked = _Asked(request, version, {"parameters": {"binary_data_output": True}})
            return _call(inputs, asked, batched=batched)
        asked = _Asked(request, version, document)
        given = _inputs(document, tail)
        specs = version.entry.signature.inputs
        names = [spec.name for spec in specs]
        if sorted(given) != sorted(names):
            raise Invalid(f"inputs: got {sorted(given)}; this model takes {sorted(names)}.")
        if version.served is not None and (files := _raw_rows(given[names[0]], specs[0], version)) is not None:
            return asked.call(Call(rows=len(files), raw=files, render=asked.render))
        inputs = {spec.name: given[spec.name].tensor(spec, batched=batched) for spec in specs}
        return _call(inputs, asked, batched=batched)

    def render_error(self, refusal: Refusal) -> tuple[bytes, bytes]:
        return orjson.dumps({"error": refusal.detail}), b"application/json"


class _Given:
    """One input as the request describes it."""

    __slots__ = ("data", "datatype", "name", "shape", "size", "tail")

    def __init__(self, described: Any, number: int) -> None:
        where = f"inputs[{number}]"
        if not isinstance(described, dict):
            raise Invalid(f"{where}: expected an object with name, shape, datatype and data.")
        self.name = _text(described, "name", where)
        self.datatype = _text(described, "datatype", where)
        if self.datatype not in tensor_bytes.DTYPES:
            raise Invalid(f"{where}.datatype: got {self.datatype!r}; expected one of {', '.join(tensor_bytes.DTYPES)}.")
        self.shape = _shape(described.get("shape"), where)
        self.data = described.get("data")
        parameters = _object(described, "parameters", where)
        if "shared_memory_region" in parameters:
            raise Invalid(f"{where}: shared memory is not served here; send the tensor's data.")
        self.size: int | None = parameters.get("binary_data_size")
        if self.size is not None and (type(self.size) is not int or self.size < 0):
            raise Invalid(f"{where}.parameters.binary_data_size: got {self.size!r}; expected a number of bytes.")
        if self.size is None and not isinstance(self.data, list):
            raise Invalid(f"{where}: expected 'data', a list, or parameters.binary_data_size.")
        self.tail = memoryview(b"")

    @property
    def dtype(self) -> str:
        return tensor_bytes.DTYPES[self.datatype]

    def tensor(self, spec: TensorSpec, *, batched: bool) -> Tensor:
        """The input's tensor, checked against the signature."""
        if self.dtype != spec.dtype:
            raise Invalid(
                f"inputs.{self.name}: got datatype {self.datatype}; this model takes "
                f"{tensor_bytes.DATATYPES[spec.dtype]}."
            )
        if batched and len(spec.shape) == 1 and self.shape[1:] == (1,):
            self.shape = self.shape[:1]  # Triton's models have a dimension beside the rows, and so do requests to them
        check_shape(self.shape, spec, f"inputs.{self.name}", batched=batched)
        return self.array(spec)

    def array(self, spec: TensorSpec) -> Tensor:
        """The data in the dtype that the request names."""
        if self.size is not None:
            return tensor_bytes.decode(self.tail, dtype=self.dtype, shape=self.shape, name=self.name)
        if self.dtype == "float16":
            raise Invalid(f"inputs.{self.name}: FP16 has no form in JSON; send it as binary data.")
        field = f"inputs.{self.name}"
        as_given = TensorSpec(spec.name, self.dtype, spec.shape)
        found = as_array(self.data, as_given, field)
        if found.size != prod(self.shape):
            raise Invalid(f"{field}: got {found.size:,} elements; shape {list(self.shape)} has {prod(self.shape):,}.")
        found = as_texts(found, as_given, field) if self.dtype == BYTES else as_numbers(found, as_given, field)
        return found.reshape(self.shape)


class _Asked:
    """What the request wants to have back, and how."""

    def __init__(self, request: PredictRequest, version: LoadedVersion, document: Mapping[str, Any]) -> None:
        self._request = request
        self._version = version
        self._document = document
        self._parameters = _object(document, "parameters", "the request")
        self._all_binary = bool(self._parameters.get("binary_data_output", False))
        names = [spec.name for spec in version.entry.signature.outputs]
        outputs = document.get("outputs")
        if outputs is None or outputs == []:
            self._wanted: list[tuple[str, dict[str, Any]]] = [(name, {}) for name in names]
        else:
            self._wanted = [_output(one, number, names) for number, one in enumerate(_list(outputs, "outputs"))]

    def call(self, call: Call) -> Call:
        """The call with the deadline and the priority that the request asks for."""
        timeout, priority = self._parameters.get("timeout", 0), self._parameters.get("priority", 0)
        for name, value in (("timeout", timeout), ("priority", priority)):
            if type(value) is not int or not 0 <= value < 2**64:
                raise Invalid(f"parameters.{name}: got {value!r}; expected a whole number from 0.")
        return (
            replace(call, timeout=timeout / 1e6 if timeout else None, priority=priority)
            if timeout or priority
            else call
        )

    def render(self, outputs: Tensors) -> Reply:
        described, parts = [], []
        for name, parameters in self._wanted:
            tensor, dtype = outputs[name], self._dtype(name)
            if (count := parameters.get("classification", 0)) > 0 and dtype == BYTES:
                raise Invalid(f"outputs.{name}: classification takes scores, and this output is of texts.")
            if count > 0:
                tensor, dtype = _classes(tensor, count, self._version.entry.manifest.get("labels", [])), BYTES
            about: dict[str, Any] = {
                "name": name,
                "datatype": tensor_bytes.DATATYPES[dtype],
                "shape": list(tensor.shape),
            }
            if parameters.get("binary_data", self._all_binary):
                parts.append(tensor_bytes.encode(tensor))
                about["parameters"] = {"binary_data_size": len(parts[-1])}
            else:
                about["data"] = _listed(tensor, name)
            described.append(about)
        document: dict[str, Any] = {
            "model_name": self._request.deployment,
            "model_version": str(self._version.entry.number),
            "outputs": described,
        }
        if "id" in self._document:
            document["id"] = self._document["id"]
        head = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
        if not parts:
            return _compressed(Reply(head), self._request.headers)
        length = (b"inference-header-content-length", str(len(head)).encode())
        return _compressed(Reply(head + b"".join(parts), OCTETS, (length,)), self._request.headers)

    def _dtype(self, name: str) -> str:
        return next(spec.dtype for spec in self._version.entry.signature.outputs if spec.name == name)


def _split(request: PredictRequest) -> tuple[dict[str, Any] | None, memoryview]:
    """The JSON of the request, none if its body is one raw tensor, and the bytes that come after it."""
    text = request.headers.get(JSON_LENGTH)
    if text is None:
        return parse_json(request.whole), memoryview(b"")
    if not text.isdigit() or int(text) > len(request.body):
        raise Invalid(
            f"Inference-Header-Content-Length is {text.decode('latin-1')!r}; expected the length of the JSON at the "
            f"beginning of a body of {len(request.body):,} bytes."
        )
    length = int(text)
    return (parse_json(bytes(request.body[:length])) if length else None), memoryview(request.body)[length:]


def _inputs(document: Mapping[str, Any], tail: memoryview) -> dict[str, _Given]:
    """The inputs by name, each with its share of the bytes after the JSON."""
    given = [_Given(one, number) for number, one in enumerate(_list(document.get("inputs"), "inputs"))]
    at = 0
    for one in given:
        if one.size is not None:
            one.tail = tail[at : at + one.size]
            at += one.size
    if at != len(tail):
        raise Invalid(f"The inputs' binary_data_size add up to {at:,} bytes; {len(tail):,} come after the JSON.")
    named = {one.name: one for one in given}
    if len(named) != len(given):
        raise Invalid("inputs: a name comes twice.")
    return named


def _raw_body(tail: memoryview, version: LoadedVersion) -> Tensor:
    """A body that is nothing but the one input's bytes."""
    specs = version.entry.signature.inputs
    if len(specs) != 1:
        raise Invalid(f"A raw body holds one input; this model takes {[spec.name for spec in specs]}.")
    spec = specs[0]
    if spec.dtype == BYTES:
        found = np.empty(1, object)
        found[0] = bytes(tail)
        return found.reshape([1] * len(spec.shape))
    if any(size < 0 for size in spec.shape[1:]):
        raise Invalid(f"A raw body says no shape, and the input {spec.name!r} has dimensions of any size.")
    row = prod(spec.shape[1:]) * spec.numpy.itemsize
    if not row or len(tail) % row:
        raise Invalid(f"The raw body has {len(tail):,} bytes; rows of the input {spec.name!r} have {row:,} each.")
    return tensor_bytes.decode(tail, dtype=spec.dtype, shape=(len(tail) // row, *spec.shape[1:]), name=spec.name)


def _raw_rows(given: _Given, spec: TensorSpec, version: LoadedVersion) -> tuple[Any, ...] | None:
    """Rows that the version's own preprocessing takes: files as BYTES, or pixels as UINT8; none if it is a tensor."""
    assert version.served is not None
    if given.datatype == "BYTES" and spec.dtype != BYTES:
        if len(given.shape) not in (1, 2) or given.shape[1:] not in ((), (1,)):
            raise Invalid(
                f"inputs.{given.name}: got BYTES of shape {list(given.shape)}; expected one file a row: [rows]."
            )
        return tuple(tensor_bytes.texts(given.array(spec)))
    if given.datatype == "UINT8" and spec.dtype != "uint8" and (pixels := version.served.pixels):
        if given.shape[1:] != pixels:
            check_shape(given.shape, TensorSpec(spec.name, "uint8", (-1, *pixels)), f"inputs.{given.name}")
        return tuple(given.array(spec))
    return None


def _call(inputs: Tensors, asked: _Asked, *, batched: bool) -> Call:
    if not batched:
        return asked.call(Call(rows=1, inputs=inputs, render=asked.render))
    counts = {name: len(tensor) for name, tensor in inputs.items()}
    if len(set(counts.values())) != 1:
        raise Invalid(f"The inputs differ in their number of rows: {counts}.")
    return asked.call(Call(rows=next(iter(counts.values())), inputs=inputs, render=asked.render))


def _output(wanted: Any, number: int, names: list[str]) -> tuple[str, dict[str, Any]]:
    where = f"outputs[{number}]"
    if not isinstance(wanted, dict):
        raise Invalid(f"{where}: expected an object with a name.")
    name = _text(wanted, "name", where)
    if name not in names:
        raise Invalid(f"{where}: got {name!r}; this model gives {', '.join(names)}.")
    parameters = _object(wanted, "parameters", where)
    if "shared_memory_region" in parameters:
        raise Invalid(f"{where}: shared memory is not served here.")
    count = parameters.get("classification", 0)
    if type(count) is not int or count < 0:
        raise Invalid(f"{where}.parameters.classification: got {count!r}; expected a number of classes.")
    return name, parameters


def _classes(tensor: Tensor, count: int, labels: list[str]) -> Tensor:
    """The `count` best of each row as "score:index:label"."""
    rows = tensor.reshape(len(tensor), -1)
    best = np.argsort(-rows, axis=1, kind="stable")[:, :count]
    named = len(labels) == rows.shape[1]
    found = np.empty(best.shape, object)
    for at in np.ndindex(*best.shape):
        index = int(best[at])
        found[at] = f"{rows[at[0], index]:f}:{index}{':' + labels[index] if named else ''}".encode()
    return found


def _listed(tensor: Tensor, name: str) -> Any:
    """A tensor's elements for JSON, row by row; NaN and infinities are null."""
    if tensor.dtype.kind == "O":
        try:
            return [one.decode() for one in tensor_bytes.texts(tensor)]
        except UnicodeDecodeError as error:
            raise Invalid(f"outputs.{name}: its bytes are no text; ask for binary data.") from error
    if tensor.dtype == np.float16:
        raise Invalid(f"outputs.{name}: FP16 has no form in JSON; ask for binary data.")
    return np.ascontiguousarray(tensor).ravel()


def _compressed(reply: Reply, headers: Mapping[bytes, bytes]) -> Reply:
    """The reply in the encoding that its reader asked for, if it is one that is known here."""
    accepted = headers.get(b"accept-encoding")
    if not accepted:
        return reply
    names = _encodings(accepted)
    if b"gzip" in names:
        body, encoding = gzip.compress(reply.body, 1), b"gzip"
    elif b"deflate" in names:
        body, encoding = zlib.compress(reply.body, 1), b"deflate"
    else:
        return reply
    return Reply(body, reply.content_type, (*reply.headers, (b"content-encoding", encoding)))


def _encodings(accepted: bytes) -> set[bytes]:
    """What an Accept-Encoding header asks for; a weight of 0 forbids."""
    each = [one.partition(b";q=") for one in accepted.lower().replace(b" ", b"").split(b",")]
    return {name for name, weighed, weight in each if not weighed or weight.strip(b"0.")}


def _text(described: Mapping[str, Any], key: str, where: str) -> str:
    value = described.get(key)
    if not isinstance(value, str):
        raise Invalid(f"{where}.{key}: got {value!r}; expected text.")
    return value


def _object(described: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
    value = described.get(key) or {}
    if not isinstance(value, dict):
        raise Invalid(f"{where}: {key} is {value!r}; expected an object.")
    return value


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise Invalid(f"{where}: expected a list of tensors.")
    return value


def _shape(value: Any, where: str) -> tuple[int, ...]:
    if not isinstance(value, list) or any(type(size) is not int or not 0 <= size < MAX_DIMENSION for size in value):
        raise Invalid(f"{where}.shape: got {value!r}; expected a list of sizes.")
    return tuple(value)


PROTOCOL = OpenInference()
