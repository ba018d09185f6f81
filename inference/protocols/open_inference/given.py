"""The inputs of a request, as its JSON describes them."""

from collections.abc import Mapping
from math import prod
from typing import Any

from inference import tensor_bytes
from inference.engines.base import Tensor
from inference.protocols.base import as_array, as_numbers, as_texts, check_shape
from inference.protocols.open_inference import fields
from modelhub.signatures import BYTES, TensorSpec
from tenants.errors import Invalid

MAX_DIMENSION = 2**31


class Given:
    """One input: its data is in the JSON, or is `size` of the bytes after it, from `begin` on."""

    __slots__ = ("begin", "data", "datatype", "name", "shape", "size")

    def __init__(self, described: Any, number: int, begin: int) -> None:
        where = f"inputs[{number}]"
        if not isinstance(described, dict):
            raise Invalid(f"{where}: expected an object with name, shape, datatype and data.")
        self.name = fields.text(described, "name", where)
        self.datatype = fields.text(described, "datatype", where)
        if self.datatype not in tensor_bytes.DTYPES:
            raise Invalid(f"{where}.datatype: got {self.datatype!r}; expected one of {', '.join(tensor_bytes.DTYPES)}.")
        self.shape = _shape(described.get("shape"), where)
        self.data = described.get("data")
        parameters = fields.mapping(described, "parameters", where)
        if "shared_memory_region" in parameters:
            raise Invalid(f"{where}: shared memory is not served here; send the tensor's data.")
        self.size: int | None = parameters.get("binary_data_size")
        if self.size is not None and (type(self.size) is not int or self.size < 0):
            raise Invalid(f"{where}.parameters.binary_data_size: got {self.size!r}; expected a number of bytes.")
        if self.size is None and not isinstance(self.data, list):
            raise Invalid(f"{where}: expected 'data', a list, or parameters.binary_data_size.")
        self.begin = begin

    @property
    def dtype(self) -> str:
        return tensor_bytes.DTYPES[self.datatype]

    def tensor(self, spec: TensorSpec, tail: memoryview, *, batched: bool) -> Tensor:
        """The input's tensor, checked against the signature."""
        if self.dtype != spec.dtype:
            raise Invalid(
                f"inputs.{self.name}: got datatype {self.datatype}; this model takes "
                f"{tensor_bytes.DATATYPES[spec.dtype]}."
            )
        if batched and len(spec.shape) == 1 and self.shape[1:] == (1,):
            self.shape = self.shape[:1]  # Triton's models have a dimension beside the rows, and so do requests to them
        check_shape(self.shape, spec, f"inputs.{self.name}", batched=batched)
        return self.array(spec, tail)

    def array(self, spec: TensorSpec, tail: memoryview) -> Tensor:
        """The data in the dtype that the request names; `tail` is all that comes after the JSON."""
        if self.size is not None:
            data = tail[self.begin : self.begin + self.size]
            return tensor_bytes.decode(data, dtype=self.dtype, shape=self.shape, name=self.name)
        if self.dtype == "float16":
            raise Invalid(f"inputs.{self.name}: FP16 has no form in JSON; send it as binary data.")
        field = f"inputs.{self.name}"
        as_given = TensorSpec(spec.name, self.dtype, spec.shape)
        found = as_array(self.data, as_given, field)
        if found.size != prod(self.shape):
            raise Invalid(f"{field}: got {found.size:,} elements; shape {list(self.shape)} has {prod(self.shape):,}.")
        found = as_texts(found, as_given, field) if self.dtype == BYTES else as_numbers(found, as_given, field)
        return found.reshape(self.shape)


def inputs(document: Mapping[str, Any], tail_bytes: int) -> dict[str, Given]:
    """The inputs by name, each with its share of the bytes after the JSON."""
    found: list[Given] = []
    at = 0
    for number, described in enumerate(fields.tensors(document.get("inputs"), "inputs")):
        found.append(one := Given(described, number, at))
        at += one.size or 0
    if at != tail_bytes:
        raise Invalid(f"The inputs' binary_data_size add up to {at:,} bytes; {tail_bytes:,} come after the JSON.")
    named = {one.name: one for one in found}
    if len(named) != len(found):
        raise Invalid("inputs: a name comes twice.")
    return named


def _shape(value: Any, where: str) -> tuple[int, ...]:
    if not isinstance(value, list) or any(type(size) is not int or not 0 <= size < MAX_DIMENSION for size in value):
        raise Invalid(f"{where}.shape: got {value!r}; expected a list of sizes.")
    return tuple(value)
