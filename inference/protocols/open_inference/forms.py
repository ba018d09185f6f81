"""What the JSON of a request says, read once: who sends tensors as bytes begins each request with the same."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from inference import tensor_bytes
from inference.engines.base import Tensors
from inference.plane.versions import LoadedVersion
from inference.protocols.base import Call, check_shape, parse_json
from inference.protocols.open_inference import given
from inference.protocols.open_inference.given import Given
from inference.protocols.open_inference.wanted import Wanted
from modelhub.signatures import BYTES, TensorSpec
from tenants.errors import Invalid

# Longer ones are read anew each time; of those that are remembered there are at most so many a version.
REMEMBERED_BYTES = 1024
REMEMBERED = 64


class Form:
    """All that the JSON of a request to a deployment says, before so many bytes of tensors."""

    __slots__ = ("_inputs", "_wanted", "may_return", "priority", "tail_bytes", "timeout")

    def __init__(self, document: Mapping[str, Any], tail_bytes: int, deployment: str, version: LoadedVersion) -> None:
        self._wanted = Wanted(document, deployment, version)
        self.timeout = _whole(self._wanted.parameters, "timeout") / 1e6 or None
        self.priority = _whole(self._wanted.parameters, "priority")
        self.tail_bytes = tail_bytes
        inputs = given.inputs(document, tail_bytes)
        specs = version.entry.signature.inputs
        names = [spec.name for spec in specs]
        if sorted(inputs) != sorted(names):
            raise Invalid(f"inputs: got {sorted(inputs)}; this model takes {sorted(names)}.")
        self._inputs = [(spec, inputs[spec.name]) for spec in specs]
        # What holds data, or an id, is another each time.
        self.may_return = "id" not in document and all(one.size is not None for one in inputs.values())

    def call(self, tail: memoryview, headers: Mapping[bytes, bytes], version: LoadedVersion) -> Call:
        """The call of a request with these bytes after its JSON, and these headers."""
        render = partial(self._wanted.render, headers)
        if version.served is not None and (files := _raw_rows(*self._inputs[0], tail, version)) is not None:
            return Call(len(files), render, raw=files, timeout=self.timeout, priority=self.priority)
        batched = version.batched
        inputs = {spec.name: one.tensor(spec, tail, batched=batched) for spec, one in self._inputs}
        rows = _rows(inputs) if batched else 1
        return Call(rows, render, inputs, timeout=self.timeout, priority=self.priority)


def call_of(
    text: bytes, tail: memoryview, headers: Mapping[bytes, bytes], deployment: str, version: LoadedVersion
) -> Call:
    """The call of a request with this JSON, which may have come before."""
    known: Form | None = version.known.get((text, deployment))
    if known is not None and known.tail_bytes == len(tail):
        return known.call(tail, headers, version)
    form = Form(parse_json(text), len(tail), deployment, version)
    call = form.call(tail, headers, version)
    if form.may_return and len(text) <= REMEMBERED_BYTES:
        if len(version.known) >= REMEMBERED:
            version.known.clear()
        version.known[text, deployment] = form
    return call


def _whole(parameters: Mapping[str, Any], name: str) -> int:
    value = parameters.get(name, 0)
    if type(value) is not int or not 0 <= value < 2**64:
        raise Invalid(f"parameters.{name}: got {value!r}; expected a whole number from 0.")
    return value


def _raw_rows(spec: TensorSpec, one: Given, tail: memoryview, version: LoadedVersion) -> tuple[Any, ...] | None:
    """Rows that the version's own preprocessing takes: files as BYTES, or pixels as UINT8; none if it is a tensor."""
    assert version.served is not None
    if one.datatype == "BYTES" and spec.dtype != BYTES:
        if len(one.shape) not in (1, 2) or one.shape[1:] not in ((), (1,)):
            raise Invalid(f"inputs.{one.name}: got BYTES of shape {list(one.shape)}; expected one file a row: [rows].")
        return tuple(tensor_bytes.texts(one.array(spec, tail)))
    if one.datatype == "UINT8" and spec.dtype != "uint8" and (pixels := version.served.pixels):
        if one.shape[1:] != pixels:
            check_shape(one.shape, TensorSpec(spec.name, "uint8", (-1, *pixels)), f"inputs.{one.name}")
        return tuple(one.array(spec, tail))
    return None


def _rows(inputs: Tensors) -> int:
    counts = {name: len(tensor) for name, tensor in inputs.items()}
    if len(set(counts.values())) != 1:
        raise Invalid(f"The inputs differ in their number of rows: {counts}.")
    return next(iter(counts.values()))
