"""JSON as this API takes it: within the size limit, finite numbers only, and a clear word where it is not JSON."""

import json
import math
from collections.abc import Mapping
from typing import IO, Any

from django.conf import settings
from rest_framework.parsers import BaseParser

from tenants.errors import Invalid, TooLarge


class StrictJSONParser(BaseParser):
    """Reads one JSON document."""

    media_type = "application/json"

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        limit: int = settings.API_MAX_BODY_BYTES
        body: bytes = stream.read(limit + 1)
        if len(body) > limit:
            raise TooLarge(f"The body has more than {limit:,} bytes; that is the limit for JSON.")
        return parse(body)


def parse(body: bytes) -> Any:
    """The value of a JSON document in UTF-8."""
    try:
        return json.loads(body.decode(), parse_constant=_refuse_constant, parse_float=_finite)
    except UnicodeDecodeError as error:
        raise Invalid(f"The body is not JSON: byte {error.start} is not UTF-8.") from error
    except json.JSONDecodeError as error:
        raise Invalid(f"The body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}.") from error
    except RecursionError as error:
        raise Invalid("The body is not usable: its JSON is nested too deeply.") from error
    except ValueError as error:  # An integer of thousands of digits.
        raise Invalid(f"The body is not usable: {error}") from error


def _refuse_constant(name: str) -> float:
    raise Invalid(f"The body is not JSON: {name} is no JSON number; leave the value out or send null.")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise Invalid(f"The body is not usable: the number {text[:40]} is out of range.")
    return number
