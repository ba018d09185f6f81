"""What the demo trains on: pictures drawn here, or a customer's folder, as a zip and one picture held back."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from aiaas_site import drawings
from aiaas_site.drawings import Picture

SPLITS = ("train", "validation")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
CONTENT_TYPES = {".png": "image/png", ".webp": "image/webp"}
BATCH = 32
MOST_STEPS = 60
STEPS_IN_ALL = 300
FEWEST_EPOCHS, MOST_EPOCHS = 3, 8


class NotUsable(Exception):
    """The folder is not in the layout that is expected; the text says what is missing."""


@dataclass(frozen=True, slots=True)
class Material:
    """A data set as a zip file, and a picture that is in neither split."""

    name: str
    described: str
    archive: Path
    train: int
    validation: int
    picture: bytes
    picture_type: str
    picture_described: str
    truth: str

    @property
    def parameters(self) -> dict[str, int | str]:
        """A training of this much that takes about a minute on two cores."""
        steps = min(MOST_STEPS, -(-self.train // BATCH))
        epochs = max(FEWEST_EPOCHS, min(MOST_EPOCHS, round(STEPS_IN_ALL / steps)))
        return {
            "architecture": "seed-cnn",
            "epochs": epochs,
            "steps_per_epoch": steps,
            "validation_steps": -(-self.validation // BATCH),
        }


def drawn(scratch: Path, *, train: int = drawings.TRAIN, validation: int = drawings.VALIDATION) -> Material:
    """The pictures that the project draws itself."""
    archive = scratch / "drawn.zip"
    digest = drawings.archive(archive, drawings.drawings(train=train, validation=validation))
    return Material(
        name=f"drawn-cats-{digest[:8]}",
        described=f"{train + validation} pictures drawn by this project, cat or not_cat (no photographs)",
        archive=archive,
        train=train,
        validation=validation,
        picture=drawings.draw("cat", seed=drawings.HELD_BACK_SEED),
        picture_type="image/jpeg",
        picture_described=f"a cat drawn from seed {drawings.HELD_BACK_SEED}, which neither split has",
        truth="cat",
    )


def from_folder(folder: Path, scratch: Path) -> Material:
    """A folder in the layout `train/<class>/*`, `validation/<class>/*`; one picture of validation is held back."""
    files = {split: _pictures(folder, split) for split in SPLITS}
    held_back = files["validation"].pop()
    archive = scratch / "folder.zip"
    digest = drawings.archive(archive, _read(folder, [*files["train"], *files["validation"]]))
    relative = held_back.relative_to(folder)
    return Material(
        name=f"{folder.resolve().name[:60]}-{digest[:8]}",
        described=f"{len(files['train']) + len(files['validation'])} pictures of {folder}",
        archive=archive,
        train=len(files["train"]),
        validation=len(files["validation"]),
        picture=held_back.read_bytes(),
        picture_type=CONTENT_TYPES.get(held_back.suffix.lower(), "image/jpeg"),
        picture_described=f"{relative}, held back from the upload, so that neither split has it",
        truth=relative.parts[1],
    )


def check(folder: Path) -> None:
    """Refuses a folder in another layout, before anything is started for it."""
    for split in SPLITS:
        _pictures(folder, split)


def _pictures(folder: Path, split: str) -> list[Path]:
    if not (folder / split).is_dir():
        raise NotUsable(
            f"There is no folder {folder / split}. Expected train/<class>/* and validation/<class>/* under {folder}."
        )
    classes = [found for found in sorted((folder / split).iterdir()) if found.is_dir()]
    found = [f for c in classes for f in sorted(c.iterdir()) if f.suffix.lower() in SUFFIXES]
    if len(classes) != 2 or len(found) < 4:
        raise NotUsable(
            f"{folder / split} has {len(found)} pictures ({', '.join(SUFFIXES)}) in {len(classes)} class folders; "
            "expected two classes and at least four pictures."
        )
    return found


def _read(folder: Path, files: list[Path]) -> Iterator[Picture]:
    for file in files:
        yield Picture(name=file.relative_to(folder).as_posix(), data=file.read_bytes())
