"""The batch child over rows of texts and of tables: a line a row, in their order, as the plane would answer each."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from inference.batch_worker import child
from inference.batch_worker import task as tasks
from inference.batch_worker.child import Results
from inference.batch_worker.task import LINES_FILE, Task
from modelhub import recipes
from modelhub.trainer.task import Item
from tests import pipelines


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The recipes of tests, for one test."""
    monkeypatch.setattr(recipes, "RECIPES", dict(recipes.RECIPES))
    pipelines.register()


def task(
    folder: Path, about: dict[str, Any], rows: list[dict[str, Any]], *, done: int = 0, most: int | None = None
) -> Task:
    """A task over the rows, in two parts."""
    half = len(rows) // 2
    items = []
    for number, part in enumerate((rows[:half], rows[half:])):
        path = folder / f"part-{number}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in part))
        items.append(Item(str(path), path.name, facts={"rows": len(part)}))
    signature = {
        side: [{"name": name, "dtype": dtype, "shape": list(shape)} for name, dtype, shape in about[side]]
        for side in ("inputs", "outputs")
    }
    files = {path.name: str(path) for path in (about["path"], *about.get("more_files", ()))}
    manifest = {"serving": about["serving"], "signature": signature, "labels": [], "decision": {}}
    return Task(
        engine="onnx", file=about["path"].name, files=files, recipe=about["recipe"], manifest=manifest, items=items,
        rows=len(rows), done=done, failed=0, max_pixels=1, most_answers=most,
    )  # fmt: skip


def lines(folder: Path, wanted: Task) -> list[dict[str, Any]]:
    """The lines that the child writes, and what it tells of them at the end."""
    file, (reading, writing) = folder / LINES_FILE, os.pipe()
    wanted.write(folder)
    with file.open("ab") as stream:
        child.run(tasks.read(folder), Results(stream, wanted, file, writing))
    os.close(writing)
    with os.fdopen(reading) as told:
        last = json.loads(told.read().splitlines()[-1])["checkpoint"]
    found = [json.loads(line) for line in file.read_text().splitlines()]
    assert (last["size"], last["done"]) == (file.stat().st_size, wanted.done + len(found))
    assert last["failed"] == sum("error" in line for line in found)
    return found


def texts(count: int) -> list[dict[str, Any]]:
    return [{"name": f"t.csv:{n}", "text": "a" * (n * n % 300), "label": ""} for n in range(1, count + 1)]


def test_each_row_has_its_line_whatever_the_length_of_the_others(tmp_path: Path) -> None:
    rows = texts(90)
    rows[40]["text"] = ""
    found = lines(tmp_path, task(tmp_path, pipelines.of_texts(tmp_path), rows))
    assert [one["item"] for one in found] == [row["name"] for row in rows]
    for line, row in zip(found, rows, strict=True):
        if row["text"]:
            assert line["prediction"]["vowels"] == len(row["text"])
        else:
            assert line["error"] == {"status": 400, "title": "The request is not valid", "detail": "The text is empty."}


def test_it_goes_on_after_the_rows_that_are_done_and_stops_at_its_budget(tmp_path: Path) -> None:
    rows = texts(60)
    wanted = task(tmp_path, pipelines.of_texts(tmp_path), rows, done=35, most=40)
    assert [one["item"] for one in lines(tmp_path, wanted)] == [f"t.csv:{number}" for number in range(36, 41)]


def test_columns_of_a_table_may_be_missing_or_no_numbers(tmp_path: Path) -> None:
    values = [{"age": 3, "city": "Rome"}, {"age": None, "city": None}, {"age": "old", "city": "x"}, {"city": "x"}]
    rows = [{"name": f"t.csv:{number}", "values": one} for number, one in enumerate(values)]
    found = lines(tmp_path, task(tmp_path, pipelines.of_a_table(tmp_path), rows))
    assert [one.get("prediction") for one in found] == [{"value": 7.0}, {"value": -1.0}, None, None]
    assert found[2]["error"]["detail"] == "age: got a text; the model takes float64."
    assert "'age'" in found[3]["error"]["detail"]
