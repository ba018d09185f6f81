"""A server that knows the recipes of tests, too: `python -m tests.recipe_server --port N`.

With COMPILED=on it ends rather than run from its sources.
"""

import os
import sys

from aiaas_site import compiled, server


def main() -> None:
    made = compiled.take()  # before the recipes import what is compiled
    if os.environ.get("COMPILED") == "on" and made != "compiled":
        sys.exit(f"The prediction plane runs {made}.")
    from tests import pipelines

    pipelines.register()
    server.main()


if __name__ == "__main__":
    main()
