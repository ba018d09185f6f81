"""Lists come a page at a time by a cursor that stays right while rows are added."""

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from rest_framework.exceptions import NotFound
from rest_framework.pagination import Cursor, CursorPagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.utils.urls import replace_query_param

from tenants.errors import FieldError, Invalid

DEFAULT_LIMIT = 50
MAX_LIMIT = 200


def limit_of(request: Request) -> int:
    """How many rows a page has at most: `?limit=`."""
    text = request.query_params.get("limit")
    if text is None:
        return DEFAULT_LIMIT
    if not (text.isascii() and text.isdigit() and len(text) < 5 and 1 <= int(text) <= MAX_LIMIT):
        message = f"Expected a whole number from 1 to {MAX_LIMIT}."
        raise Invalid(f"limit: {message}", errors=(FieldError("limit", message),))
    return int(text)


def bad_cursor() -> Invalid:
    """What a cursor that this API did not make is answered with."""
    message = "Expected the cursor of a `next` or `previous` link; this is none."
    return Invalid(f"cursor: {message}", errors=(FieldError("cursor", message),))


class NewestFirst(CursorPagination):
    """`?limit=` (1 to 200) and `?cursor=`; ids sort by time, so the order needs no other column."""

    ordering = "-id"
    page_size = DEFAULT_LIMIT
    max_page_size = MAX_LIMIT
    page_size_query_param = "limit"

    def get_page_size(self, request: Request) -> int:
        return limit_of(request)

    def decode_cursor(self, request: Request) -> Cursor | None:
        try:
            cursor = super().decode_cursor(request)
        except NotFound as error:
            raise bad_cursor() from error
        if cursor is not None and "\0" in str(cursor.position):
            raise bad_cursor()
        return cursor


Row = TypeVar("Row")
Place = list[Any]


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """A page of rows that no table holds one by one (sums, months), in the envelope of every list."""

    rows: Sequence[Row]
    next: str | None
    previous: str | None

    def response(self, serializer: type[BaseSerializer[Any]], results: Sequence[Any], **context: Any) -> Response:
        shown = serializer(results, many=True, context=context).data
        return Response({"next": self.next, "previous": self.previous, "results": shown})


def page_of(
    request: Request, *, place: Callable[[Row], Place], fetch: Callable[[Place | None, bool, int], list[Row]]
) -> Page[Row]:
    """The page that the request's cursor asks for.

    `fetch(beyond, backwards, count)` gives up to `count` rows that lie beyond a place, nearest first; `place(row)` says
    where a row lies, in JSON's types.
    """
    limit = limit_of(request)
    backwards, beyond = _read(request.query_params.get("cursor"))
    found = fetch(beyond, backwards, limit + 1)
    more, rows = len(found) > limit, found[:limit]
    if backwards:
        rows.reverse()
    before, after = (more, beyond is not None) if backwards else (beyond is not None, more)
    url = request.build_absolute_uri()
    return Page(
        rows=rows,
        next=_link(url, False, place(rows[-1])) if rows and after else None,
        previous=_link(url, True, place(rows[0])) if rows and before else None,
    )


def _read(cursor: str | None) -> tuple[bool, Place | None]:
    if cursor is None:
        return False, None
    try:
        backwards, place = json.loads(base64.urlsafe_b64decode(cursor.encode()))
    except (ValueError, TypeError, RecursionError, binascii.Error) as error:
        raise bad_cursor() from error
    if backwards not in (0, 1) or not isinstance(place, list):
        raise bad_cursor()
    return bool(backwards), place


def _link(url: str, backwards: bool, place: Place) -> str:
    text = json.dumps([int(backwards), place], separators=(",", ":"))
    return str(replace_query_param(url, "cursor", base64.urlsafe_b64encode(text.encode()).decode()))
