"""What `text-classifier` reaches with its defaults on real texts, and in how many minutes.

python -m benchmarks.recipe_texts sms_spam|banking77 [parameter=value ...]
"""

import csv
import sys
import tempfile
from pathlib import Path

from benchmarks import recipe_training

DATA = Path("../shared/data")
# By data set: what is measured, how much of it is wanted, in how many minutes.
WANTED = {"sms_spam": ("F1 of spam", 0.95, 2.0), "banking77": ("accuracy", 0.86, 8.0)}


def main(name: str, *given: str) -> None:
    what, wanted, minutes = WANTED[name]
    with (DATA / name / "train.csv").open(encoding="utf-8", newline="") as file:
        rows = [{"text": row["text"], "label": row["label"]} for row in csv.DictReader(file)]
    with tempfile.TemporaryDirectory() as folder:
        found = recipe_training.train(
            "text-classifier",
            recipe_training.parameters_of("text-classifier", given),
            labels={row["label"] for row in rows},
            splits=recipe_training.divided(
                [{"name": f"{name}:{number}", **row} for number, row in enumerate(rows)],
                by="label",
                folder=Path(folder),
            ),
        )
    reached = found["accuracy"] if what == "accuracy" else found["classes"]["spam"]["f1"]
    print(f"{name}: {what} {reached:.4f} ({wanted} wanted) on {found['rows']} texts, "
          f"in {found['minutes']} minutes ({minutes:g} wanted), best of {found['epochs']} epochs: "
          f"{found['best_epoch']}")  # fmt: skip


if __name__ == "__main__":
    recipe_training.restart_faster()
    main(*sys.argv[1:])
