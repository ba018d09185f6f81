"""Fields of a request's JSON, each refused by its name if it is of another kind."""

from collections.abc import Mapping
from typing import Any

from tenants.errors import Invalid


def text(described: Mapping[str, Any], key: str, where: str) -> str:
    """A field that has to be there."""
    value = described.get(key)
    if not isinstance(value, str):
        raise Invalid(f"{where}.{key}: got {value!r}; expected text.")
    return value


def mapping(described: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
    """An object, empty if it is not there."""
    value = described.get(key) or {}
    if not isinstance(value, dict):
        raise Invalid(f"{where}: {key} is {value!r}; expected an object.")
    return value


def tensors(value: Any, where: str) -> list[Any]:
    """A list of what describes tensors."""
    if not isinstance(value, list):
        raise Invalid(f"{where}: expected a list of tensors.")
    return value
