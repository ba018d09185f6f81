"""Lists come a page at a time, newest first, by a cursor that stays right while rows are added."""

from rest_framework.pagination import CursorPagination


class NewestFirst(CursorPagination):
    """`?limit=` (1 to 200) and `?cursor=`; ids sort by time, so the order needs no other column."""

    ordering = "-id"
    page_size = 50
    max_page_size = 200
    page_size_query_param = "limit"
