"""Our server with a spool that keeps nothing: what metering costs is what the others have less than this one.

Frames are made all the same, as in the product nobody can answer without; they are not written, and nothing is shipped.
"""

from inference.plane.spool import Spool


def keep_nothing(spool: Spool, frames: bytes, counted: object = ()) -> None:
    del spool, frames, counted


if __name__ == "__main__":
    Spool.append = keep_nothing  # type: ignore[method-assign, assignment]
    from aiaas_site.server import main

    main()
