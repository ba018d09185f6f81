"""What `image-classifier` reaches with its defaults on photographs of cats and dogs, and in how many minutes.

    python -m benchmarks.recipe_images [parameter=value ...]

Trains the architecture `convnet`; `architecture=seed-cnn` is the other.
"""

import sys
from pathlib import Path

from benchmarks import recipe_training
from modelhub.trainer.task import Item

DATA = Path("../shared/data/cats_and_dogs")
WANTED, MINUTES = 0.8, 30


def main(*given: str) -> None:
    parameters = recipe_training.parameters_of("image-classifier", given, architecture="convnet")
    splits = {
        split: [
            Item(file=str(file), name=str(file.relative_to(DATA)), target=file.parent.name)
            for file in sorted((DATA / split).glob("*/*.jpg"))
        ]
        for split in ("train", "validation")
    }
    found = recipe_training.train(
        "image-classifier", parameters, labels={item.target for item in splits["train"]}, splits=splits
    )
    print(f"cats_and_dogs, {parameters['architecture']}: accuracy {found['accuracy']:.4f} ({WANTED} wanted) on "
          f"{found['rows']} pictures, in {found['minutes']} minutes ({MINUTES} wanted), best of {found['epochs']} "
          f"epochs: {found['best_epoch']}")  # fmt: skip


if __name__ == "__main__":
    recipe_training.restart_faster()
    main(*sys.argv[1:])
