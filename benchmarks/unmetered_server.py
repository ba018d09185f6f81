"""Our server with a spool that keeps nothing: what metering costs is what the others have less than this one.

Frames are made all the same, as in the product nobody can answer without; they are not written, and nothing is shipped.
"""

from inference.plane import app
from inference.plane.spool import Spool


class NullSpool(Spool):
    """Takes everything and forgets it."""

    def append(self, frames: bytes) -> None:
        pass


if __name__ == "__main__":
    app.Spool = NullSpool  # type: ignore[misc]
    from aiaas_site.server import main

    main()
