"""Small recipes with pipelines, known to `recipe_server` only: texts, a table, and a fake that answers slowly."""

import json
import time
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

from modelhub import recipes
from modelhub.recipes.base import Manifest
from modelhub.recipes.learning import Example, PathOf, Runs, Tensors
from modelhub.trainer.task import Item
from tenants.errors import Invalid

VOWELS = b"aeiou"
SHORTEST = 8
LONGEST = 4096


class VowelCounter:
    """A recipe of texts: says how many vowels a text has, and whether those are many, which a file of it decides."""

    name = "vowel-counter"
    dataset_kind = "text-classification"

    def examples(self, items: Iterable[Item]) -> Iterator[Example]:
        for item in items:
            for line in Path(item.file).read_text().splitlines():
                row = json.loads(line)
                yield Example({"text": row["text"]}, truth=row["label"], name=row["name"])

    def pipeline(self, manifest: Manifest, path_of: PathOf) -> "VowelPipeline":
        return VowelPipeline(many=json.loads(path_of("settings.json").read_text())["many"])


class VowelPipeline:
    """Texts of shape (rows,) as the tokens (their bytes, padded with zeros) of an engine that counts."""

    content_types = ("text/plain",)

    def __init__(self, *, many: int) -> None:
        self._many = many

    def sample(self, rows: int) -> Tensors:
        return {"text": texts(["banana"] * rows)}

    def buckets(self, inputs: Tensors) -> int:
        longest = max(len(one) for one in inputs["text"])
        return max(SHORTEST, 1 << (longest - 1).bit_length())

    def encode(self, inputs: Tensors) -> Tensors:
        tokens = np.zeros((len(inputs["text"]), self.buckets(inputs)), np.int64)
        for row, text in enumerate(inputs["text"]):
            if not text:
                raise Invalid("The text is empty.")
            if len(text) > LONGEST:
                raise Invalid(f"The text has {len(text):,} bytes; at most {LONGEST:,} are read.")
            tokens[row, : len(text)] = np.frombuffer(text, np.uint8)
        return {"tokens": tokens}

    def decode(self, outputs: Tensors) -> Tensors:
        vowels = outputs["sum"][:, 0]
        return {"amount": texts(["many" if one >= self._many else "few" for one in vowels]), "vowels": vowels}

    def answer(self, outputs: Tensors) -> dict[str, Any]:
        return {"amount": outputs["amount"].item().decode(), "vowels": int(outputs["vowels"])}


class FakeSpeller:
    """A recipe whose versions answer as they go: a fake that waits at each word, and then gives what its engine counts.

    The word `stumble` is refused, where it comes.
    """

    name = "fake-speller"

    def pipeline(self, manifest: Manifest, path_of: PathOf) -> "SpellingPipeline":
        return SpellingPipeline(many=json.loads(path_of("settings.json").read_text())["many"])


class SpellingPipeline(VowelPipeline):
    """As many partial answers as the text has words, a twentieth of a second apart."""

    def stream(self, inputs: Tensors, engine: Runs) -> Generator[dict[str, Any], None, Tensors]:
        encoded = self.encode(inputs)
        words = inputs["text"][0].decode().split()
        for count, word in enumerate(words, 1):
            if word == "stumble":
                raise Invalid(f"Word {count} cannot be spelled.")
            yield {"text": " ".join(words[:count])}
            time.sleep(0.05)
        return self.decode(engine.run(encoded))


class AgeRule:
    """A recipe of a table: a number that may be missing, and a text."""

    name = "age-rule"
    dataset_kind = "table"

    def examples(self, items: Iterable[Item]) -> Iterator[Example]:
        for item in items:
            for line in Path(item.file).read_text().splitlines():
                row = json.loads(line)
                yield Example(row["values"], truth=None, name=row["name"])

    def pipeline(self, manifest: Manifest, path_of: PathOf) -> "AgePipeline":
        return AgePipeline()


class AgePipeline:
    """Columns `age` (float64, NaN where it is missing) and `city` as the two tokens of an engine that adds them up."""

    content_types: tuple[str, ...] = ()

    def buckets(self, inputs: Tensors) -> int:
        return 0

    def encode(self, inputs: Tensors) -> Tensors:
        ages = np.nan_to_num(inputs["age"], nan=-1).astype(np.int64)
        return {"tokens": np.stack([ages, np.array([len(one) for one in inputs["city"]])], axis=1)}

    def decode(self, outputs: Tensors) -> Tensors:
        return {"sum": outputs["sum"][:, 0]}

    def answer(self, outputs: Tensors) -> dict[str, Any]:
        return {"value": float(outputs["sum"])}


def texts(values: list[str]) -> np.ndarray[Any, Any]:
    found = np.empty(len(values), object)
    found[:] = [one.encode() for one in values]
    return found


def summing(path: Path, *, counted: bytes | None) -> Path:
    """An ONNX file: tokens (rows, length) of int64 to sum (rows, 1) of float32, of these tokens how many, or of all."""
    if counted is None:
        first = [helper.make_node("Cast", ["tokens"], ["values"], to=TensorProto.FLOAT)]
        stored = []
    else:
        table = np.zeros(256, np.float32)
        table[list(counted)] = 1
        first = [helper.make_node("Gather", ["table", "tokens"], ["values"])]
        stored = [numpy_helper.from_array(table, "table")]
    axes = numpy_helper.from_array(np.array([1], np.int64), "axes")
    nodes = [*first, helper.make_node("ReduceSum", ["values", "axes"], ["sum"], keepdims=1)]
    graph = helper.make_graph(
        nodes,
        "summing",
        [helper.make_tensor_value_info("tokens", TensorProto.INT64, ["rows", "length"])],
        [helper.make_tensor_value_info("sum", TensorProto.FLOAT, ["rows", 1])],
        [*stored, axes],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def of_texts(folder: Path, *, recipe: str = VowelCounter.name, many: int = 3) -> dict[str, Any]:
    """What `publishing.publish` takes for a version of a recipe of texts."""
    (folder / "settings.json").write_text(json.dumps({"many": many}))
    return _about(
        recipe, summing(folder / "vowels.onnx", counted=VOWELS), [("text", "bytes", (-1,))],
        [("amount", "bytes", (-1,)), ("vowels", "float32", (-1,))],
    ) | {"more_files": [folder / "settings.json"]}  # fmt: skip


def of_a_table(folder: Path) -> dict[str, Any]:
    """What `publishing.publish` takes for a version of the recipe of a table."""
    path = summing(folder / "sum.onnx", counted=None)
    inputs = [("age", "float64", (-1,)), ("city", "bytes", (-1,))]
    return _about(AgeRule.name, path, inputs, [("sum", "float32", (-1,))])


def _about(recipe: str, path: Path, inputs: list[Any], outputs: list[Any]) -> dict[str, Any]:
    tensors = {
        "inputs": [{"name": "tokens", "dtype": "int64", "shape": [-1, -1]}],
        "outputs": [{"name": "sum", "dtype": "float32", "shape": [-1, 1]}],
    }
    return {
        "recipe": recipe, "engine": "onnx", "path": path, "inputs": inputs, "outputs": outputs, "preprocessing": {},
        "labels": [], "decision": {}, "serving": {"tensors": tensors, "typical": {"tokens": [16]}},
    }  # fmt: skip


def register() -> None:
    """Makes the recipes known in this process."""
    known = cast(dict[str, Any], recipes.RECIPES)
    known.update({recipe.name: recipe for recipe in (VowelCounter(), FakeSpeller(), AgeRule())})
