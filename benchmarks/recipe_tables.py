"""What `tabular` reaches with its defaults on two tables of scikit-learn's, and in how many minutes.

python -m benchmarks.recipe_tables [breast_cancer|diabetes] [parameter=value ...]
"""

import sys
import tempfile
from pathlib import Path

from benchmarks import recipe_training
from modelhub.trainer.task import Column

TARGET = "target"


def main(name: str = "", *given: str) -> None:
    for one in [name] if name else ["breast_cancer", "diabetes"]:
        _measure(one, *given)


def _measure(name: str, *given: str) -> None:
    values = table(name)
    types = dict.fromkeys(values[0], "number") | ({TARGET: "integer"} if name == "breast_cancer" else {})
    rows = [{"name": f"{name}:{number}", "values": row} for number, row in enumerate(values)]
    with tempfile.TemporaryDirectory() as folder:
        found = recipe_training.train(
            "tabular",
            recipe_training.parameters_of("tabular", given, target=TARGET),
            columns=[Column(column, kind) for column, kind in types.items()],
            splits=recipe_training.divided(rows, by=None, folder=Path(folder)),
        )
    what = {name: round(found[name], 4) for name in ("accuracy", "r2", "mae") if name in found}
    print(f"{name}: {what} on {found['rows']} rows, in {found['minutes']} minutes, best of {found['epochs']} epochs: "
          f"{found['best_epoch']}")  # fmt: skip


def table(name: str) -> list[dict[str, float]]:
    from sklearn import datasets

    table = getattr(datasets, f"load_{name}")()
    names = [*map(str, table.feature_names), TARGET]
    return [
        dict(zip(names, [*map(float, row), float(target)], strict=True))
        for row, target in zip(table.data, table.target, strict=True)
    ]


if __name__ == "__main__":
    recipe_training.restart_faster()
    main(*sys.argv[1:])
