"""Which path is which protocol's: predictions, and everything else that a protocol answers."""

from typing import Final

from inference.protocols import native, open_inference, tensorflow_serving
from inference.protocols.base import Found, Route, WireProtocol
from tenants.errors import MethodNotAllowed, NotFound

ROUTES: tuple[Route, ...] = (*native.ROUTES, *tensorflow_serving.ROUTES, *open_inference.ROUTES)
# Whose words an error is in, where no route is found.
PREFIXES: tuple[tuple[str, WireProtocol], ...] = (
    ("/v1/", tensorflow_serving.PROTOCOL),
    ("/v2/", open_inference.PROTOCOL),
)
NAMES: dict[WireProtocol, str] = {
    native.PROTOCOL: "native",
    tensorflow_serving.PROTOCOL: "tensorflow-serving",
    open_inference.PROTOCOL: "open-inference",
}
REMEMBERED = 4096

_remembered: Final[dict[tuple[str, str], Found]] = {}


def takes(path: str) -> bool:
    """Whether a path is the plane's; everything else is Django's."""
    lower = path.lower()
    return any(lower.startswith(prefix) for prefix, _ in PREFIXES) or any(
        route.pattern.fullmatch(path) for route in ROUTES
    )


def find(method: str, path: str) -> Found:
    """The route of a request. Raises NotFound or MethodNotAllowed."""
    found = _remembered.get((method, path))
    if found is None:
        found = _find(method, path)
        if len(_remembered) >= REMEMBERED:
            _remembered.clear()
        _remembered[method, path] = found
    return found


def protocol_of(path: str) -> WireProtocol:
    """The protocol whose words an error at this path is in."""
    lower = path.lower()
    return next((protocol for prefix, protocol in PREFIXES if lower.startswith(prefix)), native.PROTOCOL)


def name_of(protocol: WireProtocol) -> str:
    """How logs and traces name a protocol."""
    return NAMES[protocol]


def template_of(route: Route, path: str) -> str:
    """A path of the route with names in the place of what callers choose: there are no more than a few for a route."""
    match = route.pattern.fullmatch(path)
    assert match is not None
    parts, at = [], 0
    for name in match.groupdict():
        start, end = match.span(name)
        if start >= at:
            parts += [path[at:start].lower(), "{" + name + "}"]
            at = end
    return "".join([*parts, path[at:].lower()]).rstrip("/") or "/"


def _find(method: str, path: str) -> Found:
    wanted = set()
    for route in ROUTES:
        match = route.pattern.fullmatch(path)
        if match is None:
            continue
        if route.method == method:
            groups = {name: value or "" for name, value in match.groupdict().items()}
            return Found(route, groups, *(groups.get(name, "") for name in ("name", "version", "label")))
        wanted.add(route.method)
    if wanted:
        allowed = tuple(sorted(wanted))
        raise MethodNotAllowed(f"{method} is not taken here; expected {' or '.join(allowed)}.", allowed=allowed)
    raise NotFound(f"There is nothing at {path}.")
