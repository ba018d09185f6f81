"""What the access log tells of an exchange (`inference/access_log.py`)."""

from inference.access_log import PATH_CHARACTERS, Access, AccessLog, claimed, written_time
from inference.plane import routes
from inference.plane.exchange import Answer, Exchange
from inference.plane.settling import protocol_of

PLANE = "prediction"


class Accesses:
    """Writes down each exchange at its end."""

    def __init__(self, log: AccessLog) -> None:
        self._log = log

    def ended(self, exchange: Exchange, answer: Answer, total_us: int) -> None:
        """The answer has gone, or the caller has."""
        self._log.add(access(exchange, answer, total_us))


def access(exchange: Exchange, answer: Answer, total_us: int) -> Access:
    """The line of an exchange; what it did not come to is none."""
    request, work, key, deployment, version = (
        exchange.request, exchange.work, exchange.key, exchange.deployment, exchange.version,
    )  # fmt: skip
    taken = work is not None and work.taken_at > 0
    return Access(
        time=written_time(exchange.admitted_ms),
        request_id=exchange.id,
        client_request_id=claimed(request.head.headers.get(b"x-request-id")),
        plane=PLANE,
        tenant=None if key is None else key.tenant.id,
        key=None if key is None else key.id,
        deployment=None if deployment is None else deployment.name,
        version=None if version is None else version.entry.label,
        protocol=routes.name_of(protocol_of(exchange)),
        method=request.head.method,
        path=request.head.path[:PATH_CHARACTERS],
        status=answer.status,
        rows=None if exchange.call is None else exchange.call.rows,
        bytes_in=len(request.body),
        bytes_out=len(answer.body),
        queue_us=int((work.taken_at - work.queued_at) * 1e6) if work is not None and taken else None,
        compute_us=work.compute_us if work is not None and taken else None,
        total_us=total_us,
        client=request.client or None,
        forwarded_for=claimed(request.head.headers.get(b"x-forwarded-for")),
    )
