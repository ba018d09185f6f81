"""A recognizer learns three words of tones in the training child, and its files answer through its pipeline."""

import itertools
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from inference.engines.onnx import Onnx
from modelhub import recipes, signatures
from modelhub.recipes.speech import export, settings
from modelhub.recipes.speech.learner import SpeechLearner
from modelhub.trainer.process import Child, Limits
from modelhub.trainer.task import RESULT_FILE, Failure, Item
from tenants.errors import Invalid
from tests.modelhub import speech

TEXTS = ["do", "re", "mi", "do re", "mi do", "re mi", "do mi re", "mi re", "re do mi"]
SMALL = {
    "filters": 24,
    "units": 24,
    "layers": 1,
    "batch_size": 8,
    "learning_rate": 0.01,
    "schedule": "cosine",
    "warmup_steps": 0,
}
RECIPE = recipes.get("speech-recognizer")


@pytest.fixture(scope="module")
def trained() -> Iterator[tuple[Path, dict[str, Any], list[dict[str, Any]]]]:
    """The folder of a job that succeeded, its result, and what it said."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        train = speech.items(folder / "train", TEXTS * 4, seed=100)
        validation = speech.items(folder / "validation", TEXTS, seed=500)
        (folder / "train" / "broken.wav").write_bytes(b"no sound")
        train.append(Item(file=str(folder / "train" / "broken.wav"), name="broken.wav", target="do"))
        task = speech.task(folder, train=train, validation=validation, epochs=30, early_stopping=None, **SMALL)
        task.write(folder)
        child = Child(folder, Limits(seconds=120, memory_bytes=4 << 30))
        said: list[dict[str, Any]] = []
        try:
            while child.status is None:
                said += child.listen(0.2)
            said += child.rest()
        finally:
            child.close()
        assert child.status == 0, [one["log"] for one in said if "log" in one][-30:]
        yield folder, json.loads((folder / RESULT_FILE).read_text()), said


def test_it_learns_to_write_down_what_is_said(trained: Any) -> None:
    _, result, said = trained
    assert result["metrics"]["word_error_rate"] <= 0.2
    assert set(result["metrics"]["speakers"]) == {"speaker 0", "speaker 1"}
    losses = [one["epoch"]["val_loss"] for one in said if "epoch" in one]
    assert losses[-1] < losses[0] / 2


def test_what_cannot_be_read_is_named(trained: Any) -> None:
    lines = [one["log"] for one in trained[2] if "log" in one]
    assert any(line.startswith("Left out broken.wav: 8 bytes that begin with b'no sound'") for line in lines)


def test_a_version_answers_through_its_pipeline(trained: Any) -> None:
    folder, result, _ = trained
    assert result["files"][:2] == [export.FILE, settings.FILE]
    assert result["conversion"]["files"][export.FILE]["max_difference"] < 1e-3
    pipeline = RECIPE.pipeline(result, lambda name: folder / name)  # type: ignore[attr-defined]
    engine = Onnx(path=folder / result["serving"]["file"], signature=signatures.from_json(result["serving"]["tensors"]))
    items = speech.items(folder / "asked", ["re mi", "do", "mi do re"], seed=900)
    rows = list(RECIPE.examples(items))
    audio = np.empty(len(rows), object)
    audio[:] = [row.inputs["audio"] for row in rows]
    outputs = pipeline.decode(engine.run(pipeline.encode({"audio": audio})))
    found = RECIPE.assess(outputs, [row.truth for row in rows], manifest=result)
    assert found["word_error_rate"] <= 0.2
    alone = pipeline.decode(engine.run(pipeline.encode({"audio": audio[1:2]})))
    assert alone["text"][0] == outputs["text"][1]
    answer = pipeline.answer({name: tensor[0, ...] for name, tensor in outputs.items()})
    times = [(word["start"], word["end"]) for word in answer["words"]]
    assert answer["text"] == " ".join(word["word"] for word in answer["words"])
    assert all(0 <= start < end <= answer["seconds"] for start, end in times)
    assert all(earlier[1] <= later[0] for earlier, later in itertools.pairwise(times))


def learner(tmp_path: Path, *, train: list[Item], validation: list[Item], **parameters: Any) -> SpeechLearner:
    made = RECIPE.learner(speech.task(tmp_path, train=train, validation=validation, **(SMALL | parameters)))
    assert isinstance(made, SpeechLearner)
    return made


@pytest.fixture
def ready(tmp_path: Path) -> SpeechLearner:
    train, validation = speech.items(tmp_path / "a", TEXTS * 2), speech.items(tmp_path / "b", TEXTS[:3], seed=50)
    made = learner(tmp_path, train=train, validation=validation)
    made.read(folder=tmp_path, report=speech.Told())
    return made


def test_an_epoch_goes_on_where_it_was(ready: SpeechLearner) -> None:
    assert ready.steps_per_epoch == 3
    whole = list(ready.batches(epoch=2))
    for step in range(3):
        for one, other in zip(whole[step:], ready.batches(epoch=2, skip=step), strict=True):
            assert all(np.array_equal(mine, again) for mine, again in zip(one, other, strict=True))
    first = next(ready.batches(epoch=1))
    assert any(not np.array_equal(mine, other) for mine, other in zip(whole[0], first, strict=True))


def test_a_pass_has_every_sound_and_full_batches(ready: SpeechLearner) -> None:
    for drawn in (ready._drawn_pass(0), ready._drawn_pass(1)):
        assert {len(batch) for batch in drawn.batches} == {8}
        assert set(np.concatenate(drawn.batches)) == set(range(18))


def test_items_that_teach_nothing_are_named_and_left_out(tmp_path: Path) -> None:
    good = speech.items(tmp_path / "a", ["do", "re"])
    long = " ".join(itertools.repeat("mi", 40))
    bad = [
        Item(file=good[0].file, name="wordless.wav", target="…!"),
        Item(file=good[0].file, name="fast.wav", target=long),
        Item(file=str(tmp_path / "missing.wav"), name="missing.wav", target="do"),
    ]
    strange = [Item(file=good[0].file, name="strange.wav", target="fa")]
    report = speech.Told()
    made = learner(tmp_path, train=[*good, *bad], validation=[*good, *strange])
    made.read(folder=tmp_path, report=report)
    log = "\n".join(report.lines)
    assert "Left out wordless.wav: its transcript '…!' has no letters or digits." in log
    assert "Left out fast.wav: 0.35 seconds are too short for its transcript of 119 characters." in log
    assert "Left out missing.wav: No such file or directory" in log
    assert "strange.wav: no text of this model will have 'af', which its transcript has." in log
    assert made.steps_per_epoch == 1


def test_a_split_without_a_sound_fails_in_words(tmp_path: Path) -> None:
    good = speech.items(tmp_path / "a", ["do"])
    bad = [Item(file=good[0].file, name="wordless.wav", target="")]
    made = learner(tmp_path, train=good, validation=bad)
    with pytest.raises(Failure, match="The validation split has no sound that can be learned from: all of its 1"):
        made.read(folder=tmp_path, report=speech.Told())


def test_a_version_to_begin_with_gives_its_alphabet_and_norms(tmp_path: Path, ready: SpeechLearner) -> None:
    ready._settings.write(tmp_path / settings.FILE)
    items = speech.items(tmp_path / "c", ["do", "do do"])
    task = speech.task(tmp_path, train=items, validation=items, **SMALL)
    task.warm_files[settings.FILE] = str(tmp_path / settings.FILE)
    made = SpeechLearner(task)
    (tmp_path / "again").mkdir()
    made.read(folder=tmp_path / "again", report=speech.Told())
    assert made._settings.alphabet == ready._settings.alphabet == " deimor"
    np.testing.assert_allclose(made._settings.mean, ready._settings.mean, atol=1e-5)


def content(validation: str) -> Any:
    """As much of a data set's manifest as the recipe asks: what is said in its two sounds."""
    said = {"train": "do", "validation": validation}
    return SimpleNamespace(items=[SimpleNamespace(split=split, target=text) for split, text in said.items()])


def test_a_data_set_without_transcripts_is_refused() -> None:
    with pytest.raises(Invalid, match="the validation split has none of letters or digits"):
        RECIPE.check(content("…"), {})
    RECIPE.check(content("re"), {})
