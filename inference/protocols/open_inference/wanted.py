"""The outputs that a request wants to have back, and how."""

import gzip
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson

from inference import tensor_bytes
from inference.engines.base import Tensor, Tensors
from inference.plane.versions import LoadedVersion
from inference.protocols.open_inference import fields
from inference.work import Reply
from modelhub.signatures import BYTES
from tenants.errors import Invalid

OCTETS = b"application/octet-stream"


class Output:
    """One output: its numbers as bytes or in the JSON, or the names of its best `classes`."""

    __slots__ = ("as_bytes", "classes", "datatype", "name")

    def __init__(self, name: str, dtype: str, parameters: Mapping[str, Any], *, as_bytes: bool) -> None:
        self.name = name
        self.classes: int = parameters.get("classification", 0)
        self.as_bytes = bool(parameters.get("binary_data", as_bytes))
        if self.classes > 0 and dtype == BYTES:
            raise Invalid(f"outputs.{name}: classification takes scores, and this output is of texts.")
        self.datatype = tensor_bytes.DATATYPES[BYTES if self.classes > 0 else dtype]


class Wanted:
    """The outputs of a request, in its order.

    What is said of them before their bytes is kept for the next answer, which mostly has the same shapes.
    """

    def __init__(self, document: Mapping[str, Any], deployment: str, version: LoadedVersion) -> None:
        self.parameters = fields.mapping(document, "parameters", "the request")
        as_bytes = bool(self.parameters.get("binary_data_output", False))
        dtypes = {spec.name: spec.dtype for spec in version.entry.signature.outputs}
        asked = document.get("outputs")
        if asked is None or asked == []:
            self._outputs = [Output(name, dtype, {}, as_bytes=as_bytes) for name, dtype in dtypes.items()]
        else:
            each = [_output(one, number, list(dtypes)) for number, one in enumerate(fields.tensors(asked, "outputs"))]
            self._outputs = [Output(name, dtypes[name], more, as_bytes=as_bytes) for name, more in each]
        self._labels = version.entry.manifest.get("labels", [])
        self._begins = {"model_name": deployment, "model_version": str(version.entry.number)}
        self._ends = {"id": document["id"]} if "id" in document else {}
        self._any_bytes = any(one.as_bytes for one in self._outputs)
        self._all_bytes = all(one.as_bytes for one in self._outputs)
        self._last: tuple[list[tuple[tuple[int, ...], int]], bytes] = ([], b"")

    def render(self, headers: Mapping[bytes, bytes], outputs: Tensors) -> Reply:
        """The answer to a request with these headers."""
        tensors = [
            outputs[one.name] if one.classes <= 0 else _classes(outputs[one.name], one.classes, self._labels)
            for one in self._outputs
        ]
        parts = [
            tensor_bytes.encode(tensor) if one.as_bytes else b""
            for one, tensor in zip(self._outputs, tensors, strict=True)
        ]
        head = self._head(tensors, parts)
        if not self._any_bytes:
            return _compressed(Reply(head), headers)
        length = (b"inference-header-content-length", str(len(head)).encode())
        return _compressed(Reply(head + b"".join(parts), OCTETS, (length,)), headers)

    def _head(self, tensors: list[Tensor], parts: list[bytes]) -> bytes:
        """The JSON of an answer: the one before, if nothing but the bytes after it can differ."""
        if not self._all_bytes:
            return self._written(tensors, parts)
        sizes = [(tensor.shape, len(part)) for tensor, part in zip(tensors, parts, strict=True)]
        like, head = self._last
        if sizes != like:
            head = self._written(tensors, parts)
            self._last = (sizes, head)
        return head

    def _written(self, tensors: list[Tensor], parts: list[bytes]) -> bytes:
        described = [_described(*one) for one in zip(self._outputs, tensors, parts, strict=True)]
        return orjson.dumps(self._begins | {"outputs": described} | self._ends, option=orjson.OPT_SERIALIZE_NUMPY)


def _described(output: Output, tensor: Tensor, data: bytes) -> dict[str, Any]:
    """An output's place in the JSON, with its numbers if they do not come after it."""
    more = (
        {"parameters": {"binary_data_size": len(data)}} if output.as_bytes else {"data": _listed(tensor, output.name)}
    )
    return {"name": output.name, "datatype": output.datatype, "shape": list(tensor.shape)} | more


def _output(wanted: Any, number: int, names: list[str]) -> tuple[str, dict[str, Any]]:
    where = f"outputs[{number}]"
    if not isinstance(wanted, dict):
        raise Invalid(f"{where}: expected an object with a name.")
    name = fields.text(wanted, "name", where)
    if name not in names:
        raise Invalid(f"{where}: got {name!r}; this model gives {', '.join(names)}.")
    parameters = fields.mapping(wanted, "parameters", where)
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
