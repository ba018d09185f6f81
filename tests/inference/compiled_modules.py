"""What a process makes of the compiled modules, as JSON: what it runs, where each is from, and what refusals say.

`python -m tests.inference.compiled_modules`
"""

import importlib
import inspect
import json
import os
import sys
from typing import Any

from aiaas_site import compiled
from tenants.errors import Refusal


def refusals() -> dict[str, list[Any]]:
    """What every kind of refusal that is known to this process says of itself, by its name."""
    found: dict[str, list[Any]] = {}
    left: list[type[Refusal]] = [Refusal]
    while left:
        one = left.pop()
        found[f"{one.__module__}.{one.__qualname__}"] = [one.status, one.title, one.slug]
        left += one.__subclasses__()
    return found


def modules() -> dict[str, list[Any]]:
    """The file of each module that is compiled, and the packages that what its classes derive from is in."""
    found: dict[str, list[Any]] = {}
    for name in compiled.MODULES:
        module = importlib.import_module(name)
        bases = {
            base.__module__.partition(".")[0]
            for one in vars(module).values()
            if inspect.isclass(one) and one.__module__ == name
            for base in one.__mro__
        }
        found[name] = [module.__file__, sorted(bases)]
    return found


def main() -> None:
    made = compiled.take()
    os.environ["DJANGO_SETTINGS_MODULE"] = "aiaas_site.settings"
    importlib.import_module("django").setup()
    importlib.import_module("inference.plane.http")
    json.dump([made, modules(), refusals()], sys.stdout)


if __name__ == "__main__":
    main()
