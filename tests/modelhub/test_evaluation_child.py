"""The process of an evaluation, in this process: raw rows through a served file, and what is found of them."""

import base64
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, save

from modelhub import evaluation, recipes, runners
from modelhub.recipes.learning import Example, Tensors
from modelhub.signatures import Signature, TensorSpec
from modelhub.trainer import evaluation_child
from modelhub.trainer.evaluation_task import EvaluationTask, read
from modelhub.trainer.task import Failure, Item, Reporter
from tenants.errors import Invalid
from tests.modelhub import bright


@pytest.fixture
def report() -> Iterator[Reporter]:
    down = os.open(os.devnull, os.O_WRONLY)
    yield Reporter(down)
    os.close(down)


def pictures(folder: Path, **options: int) -> list[Item]:
    """The validation pictures, as files of this machine."""
    items = []
    for name, data in bright.files(**options).items():
        split, label, _ = name.split("/")
        if split == "validation":
            file = folder / name.replace("/", "-")
            file.write_bytes(data)
            items.append(Item(str(file), name, target=label, group="", facts={}))
    return items


def task_of(folder: Path, items: Sequence[Item], **changes: Any) -> EvaluationTask:
    manifest = {
        "signature": Signature(bright.INPUTS, bright.OUTPUTS).as_json(),
        "serving": {"engine": "onnx", "file": "model.onnx"},
        **bright.ABOUT,
    }
    given: dict[str, Any] = {
        "recipe": "image-classifier",
        "kind": "image-classification",
        "manifest": manifest,
        "files": {"model.onnx": str(bright.model(folder / "model.onnx"))},
        "items": items,
        "rows": len(items),
        "slices": [],
        "max_pixels": 10**6,
    }
    return EvaluationTask(**given | changes)


def test_pictures_are_answered_by_the_served_file_and_counted(tmp_path: Path, report: Reporter) -> None:
    task = task_of(tmp_path, pictures(tmp_path, wrong=1), slices=["class", "folder", "nothing"])
    found = evaluation_child.run(task, report=report)
    result = found["result"]
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert result["rows"] == result["timing"]["rows"] == 8
    assert result["metrics"]["accuracy"] == 7 / 8
    assert result["metrics"]["confusion_matrix"]["matrix"] == [[3, 1], [0, 4]]
    by_class = result["slices"]["class"]["groups"]
    assert {name: (one["rows"], one["accuracy"]) for name, one in by_class.items()} == {
        "bright": (4, 0.75),
        "dark": (4, 1.0),
    }
    assert set(result["slices"]["folder"]["groups"]) == {"validation/bright", "validation/dark"}
    assert result["slices"]["nothing"] == {"groups": {}, "groups_left_out": 0, "rows_without": 8}
    assert result["calibration"]["rows"] == 8
    assert result["thresholds"]["positive"] == "dark"
    assert result["thresholds"]["best"]["f1"] == 1.0
    assert result["left_out"] == {"rows": 0, "first": []}


def test_the_worst_mistakes_are_shown_with_their_pictures(tmp_path: Path, report: Reporter) -> None:
    found = evaluation_child.run(task_of(tmp_path, pictures(tmp_path, wrong=2)), report=report)["mistakes"]
    assert [(one["name"], one["truth"], one["answer"]) for one in found] == [
        ("validation/bright/0.jpg", "bright", "dark"),
        ("validation/bright/1.jpg", "bright", "dark"),
    ]
    assert found[0]["confidence"] > found[1]["confidence"] > 0.7
    assert base64.b64decode(found[0]["picture"])[:3] == b"\xff\xd8\xff"


def test_a_row_that_cannot_be_read_is_named_and_does_not_hold_up_the_others(tmp_path: Path, report: Reporter) -> None:
    items = pictures(tmp_path, wrong=0)
    Path(items[2].file).write_bytes(b"no picture")
    result = evaluation_child.run(task_of(tmp_path, items), report=report)["result"]
    assert (result["rows"], result["metrics"]["accuracy"]) == (7, 1.0)
    assert result["left_out"]["rows"] == 1
    (bad,) = result["left_out"]["first"]
    assert bad["name"] == items[2].name
    assert "JPEG" in bad["problem"]


def test_nothing_that_can_be_answered_is_a_failure_in_words(tmp_path: Path, report: Reporter) -> None:
    items = pictures(tmp_path)
    for item in items:
        Path(item.file).write_bytes(b"no picture")
    with pytest.raises(Failure, match=r"None of the 8 rows could be answered. The first: validation/bright/0.jpg"):
        evaluation_child.run(task_of(tmp_path, items), report=report)


def test_a_class_that_the_version_does_not_know_is_always_missed(tmp_path: Path, report: Reporter) -> None:
    items = [
        Item(item.file, item.name, target="grey" if "dark" in item.name else item.target, group="", facts={})
        for item in pictures(tmp_path, wrong=0)
    ]
    found = evaluation_child.run(task_of(tmp_path, items), report=report)
    assert found["result"]["metrics"]["accuracy"] == 0.5
    assert {one["truth"] for one in found["mistakes"]} == {"grey"}
    assert found["result"]["thresholds"] is None


def test_a_task_is_what_was_written(tmp_path: Path) -> None:
    task = task_of(tmp_path, pictures(tmp_path), slices=["class"])
    task.write(tmp_path)
    assert read(tmp_path) == task


class Lengths:
    """A recipe whose versions say whether a text is long: a pipeline before an engine of numbers."""

    name = "lengths"

    def examples(self, items: Iterable[Item]) -> Iterator[Example]:
        for item in items:
            for number, line in enumerate(Path(item.file).read_text().splitlines(), 1):
                text, label, group = line.split(",")
                yield Example({"text": text}, truth=label, name=f"{item.name}:{number}", slices={"group": group})

    def pipeline(self, manifest: Any, path_of: Any) -> "LengthsPipeline":
        return LengthsPipeline(float(path_of("settings.txt").read_text()))

    def assess(self, outputs: Tensors, truths: Sequence[Any], *, manifest: Any) -> dict[str, Any]:
        indices = np.array([manifest["labels"].index(truth) for truth in truths])
        return evaluation.classification(scores=outputs["scores"], truths=indices, labels=manifest["labels"])


class LengthsPipeline:
    def __init__(self, scale: float) -> None:
        self._scale = scale
        self.batches: list[int] = []

    def buckets(self, inputs: Tensors) -> int:
        return len(inputs["text"][0]) // 4

    def encode(self, inputs: Tensors) -> Tensors:
        for text in inputs["text"]:
            if text == b"bad":
                raise Invalid("The text is bad.")
        assert len({len(text) // 4 for text in inputs["text"]}) == 1, "rows of different buckets are run together"
        return {"x": np.array([[len(text) * self._scale] for text in inputs["text"]], np.float32)}

    def decode(self, outputs: Tensors) -> Tensors:
        long: NDArray[Any] = np.clip(outputs["x_out"], 0, 1)
        return {"scores": np.concatenate([long, 1 - long], axis=1)}


def identity(path: Path) -> Path:
    given, answered = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", 1]) for name in ("x", "x_out")
    )  # fmt: skip
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["x_out"])], "same", [given], [answered])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    made.ir_version = 8
    save(made, path)
    return path


def test_texts_go_through_the_pipeline_by_their_length(
    tmp_path: Path, report: Reporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(recipes.RECIPES, "lengths", Lengths())
    (tmp_path / "settings.txt").write_text("0.1")
    lines = ["a" * 9 + ",long,eve", "b,short,eve", "c" * 8 + ",short,bob", "bad,short,bob", "dd,short,bob"]
    (tmp_path / "part").write_text("\n".join(lines))
    tensors = Signature((TensorSpec("x", "float32", (-1, 1)),), (TensorSpec("x_out", "float32", (-1, 1)),))
    manifest = {
        "signature": Signature(
            (TensorSpec("text", "bytes", (-1,)),), (TensorSpec("scores", "float32", (-1, 2)),)
        ).as_json(),
        "serving": {"engine": "onnx", "file": "same.onnx", "tensors": tensors.as_json()},
        "labels": ["long", "short"],
        "preprocessing": {},
        "decision": {"kind": "largest"},
    }
    task = task_of(
        tmp_path,
        [Item(str(tmp_path / "part"), "train.csv", target="", group="", facts={"rows": 5})],
        recipe="lengths",
        kind="text-classification",
        manifest=manifest,
        files={"same.onnx": str(identity(tmp_path / "same.onnx")), "settings.txt": str(tmp_path / "settings.txt")},
        rows=5,
        slices=["speaker"],
    )
    found = evaluation_child.run(task, report=report)
    result = found["result"]
    assert result["metrics"]["confusion_matrix"]["matrix"] == [[1, 0], [1, 2]]
    assert result["left_out"] == {"rows": 1, "first": [{"name": "train.csv:4", "problem": "The text is bad."}]}
    assert {name: one["accuracy"] for name, one in result["slices"]["speaker"]["groups"].items()} == {
        "bob": 0.5,
        "eve": 1.0,
    }
    assert [(one["name"], one["answer"]) for one in found["mistakes"]] == [("train.csv:3", "long")]


def test_an_engine_without_a_runner_is_refused_with_those_that_have_one(tmp_path: Path) -> None:
    manifest = {"serving": {"engine": "savedmodel", "file": "x"}, "signature": {"inputs": [], "outputs": []}}
    with pytest.raises(runners.NoRunner, match="'savedmodel'; expected one of litert, onnx, seq2seq"):
        runners.open(manifest, lambda name: tmp_path / name)


def test_a_file_without_the_signatures_tensors_is_refused_with_its_own(tmp_path: Path) -> None:
    specs = (TensorSpec("a", "float32", (-1, 1)), TensorSpec("b", "float32", (-1, 1)))
    with pytest.raises(runners.NoRunner, match="has the tensors x; the signature names a, b"):
        runners.onnx(identity(tmp_path / "same.onnx"), Signature(specs, specs))
