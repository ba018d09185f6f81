"""The catalog of engines."""

from inference.engines.catalog import ENGINES


def test_engines_are_called_by_their_own_names() -> None:
    assert {name: getattr(engine, "name", "") for name, engine in ENGINES.items()} == {name: name for name in ENGINES}
