"""A request id for each answer of the control plane: in the audit trail, and in the access log where there is one."""

import time
from collections.abc import Callable

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from inference import access_log
from inference.access_log import PATH_CHARACTERS, Access, claimed, written_time
from tenants import ids, origin
from tenants.accounts import Caller
from tenants.keys import addresses
from tenants.origin import Origin

PLANE = "control"


class RequestIds:
    """Middleware, the outermost, so that whatever answers has an id."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        request_id, at_ms, started = ids.request(), time.time_ns() // 1_000_000, time.monotonic()
        with origin.set_to(_origin(request, request_id)):
            response = self._get_response(request)
        response["X-Request-Id"] = request_id
        log = access_log.of_process()
        if log is not None:
            total_us = int((time.monotonic() - started) * 1e6)
            log.add(_access(request, response, request_id=request_id, at_ms=at_ms, total_us=total_us))
        return response


def _origin(request: HttpRequest, request_id: str) -> Origin:
    peer, forwarded_for = request.META.get("REMOTE_ADDR") or "", request.headers.get("X-Forwarded-For", "")
    return origin.of_request(
        address=str(addresses.sender(peer, forwarded_for) or peer),
        forwarded_for=forwarded_for,
        user_agent=request.headers.get("User-Agent", ""),
        request_id=request_id,
    )


def _access(request: HttpRequest, response: HttpResponseBase, *, request_id: str, at_ms: int, total_us: int) -> Access:
    # A session's user is looked up when it is looked at: only who was identified already is told.
    user = request.__dict__.get("user")
    caller = user if type(user) is Caller else None
    sent = request.headers.get("Content-Length", "")
    return Access(
        time=written_time(at_ms),
        request_id=request_id,
        client_request_id=claimed(request.headers.get("X-Request-Id", "").encode()),
        plane=PLANE,
        tenant=None if caller is None else caller.tenant.pk,
        key=None if caller is None or caller.key is None else caller.key.pk,
        deployment=None,
        version=None,
        protocol=None,
        method=request.method or "",
        path=request.path[:PATH_CHARACTERS],
        status=response.status_code,
        rows=None,
        bytes_in=int(sent) if sent.isdigit() else 0,
        bytes_out=None if response.streaming else len(response.content),  # type: ignore[attr-defined]
        queue_us=None,
        compute_us=None,
        total_us=total_us,
        client=request.META.get("REMOTE_ADDR") or None,
        forwarded_for=claimed(request.headers.get("X-Forwarded-For", "").encode()),
    )
