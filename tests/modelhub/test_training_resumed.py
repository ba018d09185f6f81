"""A training that is taken up at a checkpoint ends as one that nobody disturbed: the same weights, bit by bit."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelhub.recipes.image import convnet
from modelhub.recipes.image.learner import PictureLearner
from modelhub.trainer import checkpoints, fit, warm
from modelhub.trainer.checkpoints import Checkpoint, Place
from modelhub.trainer.fit import Fit
from modelhub.trainer.saving import Saver
from modelhub.trainer.task import Failure
from tests.modelhub.test_training_steps import Told, built, fitting, learner, split, told, weights_of

__all__ = ["told"]

SHAPE = (convnet.HEIGHT, convnet.WIDTH, 3)
EPOCHS, STEPS = 3, 4


def small() -> PictureLearner:
    """With all that has a state: dropout, norms' averages, augmentation, a schedule, passes of uneven batches."""
    return learner(
        split(27, shape=SHAPE), split(8, seed=1, shape=SHAPE), architecture="convnet", epochs=EPOCHS,
        steps_per_epoch=STEPS, batch_size=8, learning_rate=0.01, warmup_steps=3, clip_norm=1.0, seed=5,
    )  # fmt: skip


def saver(told: Told, **changes: Any) -> Saver:
    options = {"every_seconds": 0.0, "max_bytes": 10**9, "size": 1} | changes
    return Saver(told.folder, report=told.report, **options)


def undisturbed(told: Told) -> tuple[Fit, list[Path]]:
    """A whole training, and the checkpoints that it wrote, one a step."""
    training = fitting(small(), told, saver=saver(told))
    kept: list[Path] = []
    write = checkpoints.write

    def also_kept(path: Path, checkpoint: Checkpoint) -> dict[str, Any]:
        about = write(path, checkpoint)
        kept.append(path.rename(told.folder / f"kept-{len(kept)}"))
        return about

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("modelhub.trainer.checkpoints.write", also_kept)
        training.run()
    return training, kept


def timeless(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: row[name] for name in row if name not in ("seconds", "rows_per_second")} for row in history]


def test_a_training_can_be_taken_up_after_any_step(told: Told) -> None:
    whole, kept = undisturbed(told)
    assert len(kept) == EPOCHS * STEPS
    for number in (1, STEPS - 1, STEPS + 1, EPOCHS * STEPS - 2, EPOCHS * STEPS - 1):
        checkpoint = checkpoints.read(kept[number])
        assert checkpoint.place.epoch == 1 + (number + 1) // STEPS
        assert checkpoint.place.steps == (number + 1) % STEPS
        # Other first weights: all that counts comes from the checkpoint.
        fit.be_repeatable(77)
        at = small()
        again = fitting(at, told, model=at.build(), checkpoint=checkpoint)
        history = again.run()
        assert timeless(history) == timeless(whole.place.history), number
        assert weights_of(again._model) == weights_of(whole._model), number
        assert again.place.best_epoch == whole.place.best_epoch


def test_a_checkpoint_is_read_as_it_was_written(tmp_path: Path) -> None:
    place = Place(3, 2, 0.1 + 0.2, {"rows": 7.0}, 1.5, [{"epoch": 1, "loss": None}, {"epoch": 2, "loss": 1e-17}], 2)
    arrays: list[Any] = [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.array(7, np.int64),
        np.array([1, 2], np.uint32),
    ]
    about = checkpoints.write(tmp_path / "checkpoint-1", Checkpoint(place, arrays, arrays[:1], []))
    assert about["file"] == "checkpoint-1"
    assert about["epochs"] == 2
    assert about["sha256"] == checkpoints.sha256_of(tmp_path / "checkpoint-1")
    assert about["size"] == (tmp_path / "checkpoint-1").stat().st_size
    found = checkpoints.read(tmp_path / "checkpoint-1")
    assert dataclasses.asdict(found.place) == dataclasses.asdict(place)
    for one, other in zip(found.model, arrays, strict=True):
        assert (one.dtype, one.tolist()) == (other.dtype, other.tolist())
    assert (len(found.optimizer), found.best) == (1, [])


def test_a_checkpoint_of_another_model_is_no_start(told: Told) -> None:
    model = built()
    with pytest.raises(Failure, match="The checkpoint has 1 arrays of other shapes than the 6 of the model"):
        checkpoints.given([np.zeros(3)], model.variables)


def test_checkpoints_cost_no_more_than_a_tenth_of_the_time(told: Told) -> None:
    made: list[int] = []

    def checkpoint() -> Checkpoint:
        made.append(1)
        return Checkpoint(Place(), [np.zeros(4)], [], [])

    dear = saver(told, every_seconds=1e9, size=10**8)
    dear.after_epoch(checkpoint)
    dear.within_epoch(checkpoint)
    assert made == []
    cheap = saver(told, every_seconds=1e9, size=1)
    cheap.after_epoch(checkpoint)
    assert made == [1]
    often = saver(told, every_seconds=0.0, size=10**8)
    often.within_epoch(checkpoint)
    often.within_epoch(checkpoint)
    assert made == [1, 1, 1]
    assert [path.name for path in told.folder.glob("checkpoint-*")] == ["checkpoint-2"], "only the newest is of use"
    large = saver(told, every_seconds=0.0, max_bytes=100, size=101)
    large.within_epoch(checkpoint)
    assert made == [1, 1, 1]
    assert "No checkpoints are kept: one would have 101 bytes" in told.messages("log")[-1]


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # Keras, when it writes its file
def test_a_training_begins_with_the_weights_of_another(told: Told) -> None:
    first, second = built(1), built(2)
    files = {warm.WEIGHTS: str(told.folder / warm.write(first, told.folder))}
    warm.load(second, version="cats@1", files=files)
    assert weights_of(first) == weights_of(second)
    third = built(3)
    first.save(told.folder / "model.keras")
    warm.load(third, version="cats@1", files={"model.keras": str(told.folder / "model.keras")})
    assert weights_of(third) == weights_of(first)


def test_weights_that_do_not_all_fit_are_refused_in_words(told: Told) -> None:
    two, three = built(), learner(split(classes=3), classes=3).build()
    files = {warm.WEIGHTS: str(told.folder / warm.write(two, told.folder))}
    before = weights_of(three)
    with pytest.raises(Failure, match=r"with the weights of cats@1: .*kernel has the shape 128 × 1 there and 128 × 3"):
        warm.load(three, version="cats@1", files=files)
    assert weights_of(three) == before, "some were loaded"
    with pytest.raises(Failure, match=r"has 6 arrays of them, and this model has \d\d\."):
        warm.load(small().build(), version="cats@1", files=files)
    with pytest.raises(Failure, match="cats@1: its weights were not kept"):
        warm.load(three, version="cats@1", files={"model.onnx": "somewhere"})
