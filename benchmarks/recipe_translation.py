"""The recipe `translator` with its defaults on real pairs: BLEU on 1,000 of them, and how long that took.

    python -m benchmarks.recipe_translation [--minutes 45] [--serve] [--set epochs=2 …]

Trains in this process as a training job does, on all but 1,000 of the 50,000 pairs of `../shared/data/
translation_en_es`, and prints each epoch, and at the end whether 28 points of BLEU were reached in the time. `--serve`
times the bundle afterwards, or that of an earlier run (`--bundle PATH`), by itself: how long a translation of ten words
takes alone and among others; `benchmarks.recipe_serving` does that through HTTP, with what `--folder` keeps. Writes
`benchmarks/results/translation.json`.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.recipe_serving import SENTENCES
from modelhub import evaluation, recipes
from modelhub.recipes.base import checked
from modelhub.recipes.translation.recipe import TranslationPipeline
from modelhub.seq2seq import Bundle
from modelhub.subwords import Subwords
from modelhub.trainer import child
from modelhub.trainer.task import RESULT_FILE, Item, Reporter, Task

RESULTS = Path(__file__).parent / "results"
REAL = Path("../shared/data/translation_en_es/pairs.tsv")
VALIDATION = 1000
SEED = 0
WANTED = 28.0
ROUNDS = 40
ROWS_AT_ONCE = 16


class Printed(Reporter):
    """Prints what a trainer would be told, with the minutes that have passed."""

    def __init__(self) -> None:
        super().__init__(os.open(os.devnull, os.O_WRONLY))
        self._began = time.monotonic()

    @property
    def minutes(self) -> float:
        return (time.monotonic() - self._began) / 60

    def epoch(self, metrics: Mapping[str, Any]) -> None:
        words = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        print(f"{self.minutes:6.2f} min: {words}", flush=True)

    def log(self, text: str) -> None:
        print(f"{self.minutes:6.2f} min: {text}", flush=True)


def main() -> None:
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch)
        folder.mkdir(exist_ok=True)
        result = {} if arguments.bundle else train(folder, minutes=arguments.minutes, parameters=dict(arguments.set))
        if arguments.serve or arguments.bundle:
            place = (arguments.bundle or folder / "model.seq2seq.zip").parent
            result["serving"] = serve(place)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "translation.json").write_text(json.dumps(result, indent=1))
    print(f"written to {RESULTS.name}/translation.json")


def train(folder: Path, *, minutes: float, parameters: dict[str, Any]) -> dict[str, Any]:
    """Trains the recipe; gives what was reached."""
    splits = _written(folder)
    task = Task(
        recipe="translator",
        parameters=checked(recipes.get("translator").parameters, parameters),
        kind="translation",
        labels=[],
        columns=[],
        max_pixels=0,
        seconds=minutes * 60,
        train=splits["train"],
        validation=splits["validation"],
    )
    report = Printed()
    result = child.run(task, folder=folder, report=report)
    (folder / RESULT_FILE).write_text(json.dumps(result | {"recipe": task.recipe}))
    took, metrics = report.minutes, result["metrics"]
    reached = "reached" if metrics["bleu"] >= WANTED and took <= minutes else "MISSED"
    print(f"BLEU {metrics['bleu']:.2f}, chrF {metrics['chrf']:.2f} on {metrics['rows']} pairs after {took:.1f} minutes")
    print(f"{WANTED:g} in {minutes:g} minutes wanted: {reached}")
    new = unseen(folder)
    print(f"BLEU {new['bleu']:.2f} on the {new['rows']} of them of which neither side is among the training's")
    for one in metrics["examples"][:10]:
        print(f"  {one['source']} → {one['translation']} ({one['reference']})")
    return {
        "bleu": metrics["bleu"],
        "chrf": metrics["chrf"],
        "unseen": {"rows": new["rows"], "bleu": new["bleu"]},
        "minutes": took,
        "wanted": WANTED,
        "epochs": result["epochs"],
        "parameters": task.parameters,
        "conversion": result["conversion"],
    }


def unseen(folder: Path) -> dict[str, Any]:
    """BLEU on the validation pairs of which neither side stands in the training's: nothing learned by heart helps."""
    train, validation = (
        [json.loads(line) for line in (folder / f"{split}.jsonl").open(encoding="utf-8")]
        for split in ("train", "validation")
    )
    known = {side: {row[side] for row in train} for side in ("source", "target")}
    rows = [row for row in validation if not any(row[side] in known[side] for side in known)]
    rows.sort(key=lambda row: len(row["source"]))  # those of a batch are of about one length
    pipeline, bundle = _pipeline(folder), Bundle(folder / "model.seq2seq.zip", threads=2)
    texts: list[str] = []
    for first in range(0, len(rows), ROWS_AT_ONCE):
        sources = np.array([row["source"].encode() for row in rows[first : first + ROWS_AT_ONCE]], object)
        given = pipeline.encode({"text": sources})
        answer = pipeline.decode(bundle.translate(given["tokens"], given["lengths"])._asdict())
        texts += [text.decode() for text in answer["translation"]]
    return evaluation.bleu([row["target"] for row in rows], texts)


def _pipeline(folder: Path) -> TranslationPipeline:
    subwords = Subwords((folder / "vocabulary.model").read_bytes())
    return TranslationPipeline(subwords, max_tokens=200, usual=SENTENCES[0])


def serve(folder: Path) -> dict[str, Any]:
    """Milliseconds for one translation of ten words, and translations a second by rows in a batch, by threads."""
    pipeline = _pipeline(folder)
    found: dict[str, Any] = {}
    for threads in (1, 2):
        bundle = Bundle(folder / "model.seq2seq.zip", threads=threads)
        for rows in (1, 2, 4, 8, 16, 32):
            texts = [SENTENCES[n % len(SENTENCES)].encode() for n in range(rows)]
            times = []
            for number in range(ROUNDS):
                turned = texts[number % rows :] + texts[: number % rows]
                if rows == 1:
                    turned = [SENTENCES[number % len(SENTENCES)].encode()]
                began = time.perf_counter()
                given = pipeline.encode({"text": np.array(turned, object)})
                answer = pipeline.decode(bundle.translate(given["tokens"], given["lengths"])._asdict())
                times.append(time.perf_counter() - began)
            middle = statistics.median(times[2:])
            found[f"{threads} threads, {rows} rows"] = {
                "ms": round(middle * 1e3, 2),
                "per_second": round(rows / middle, 1),
            }
            print(f"{threads} threads, {rows:2} rows: {middle * 1e3:7.2f} ms, {rows / middle:6.1f} translations/s")
    for sentence, translation in zip(texts, answer["translation"][: len(SENTENCES)], strict=False):
        print(f"  {sentence.decode()} → {translation.decode()}")
    return found


def _written(folder: Path) -> dict[str, list[Item]]:
    """The pairs as the data set's store has them: JSON Lines for each split."""
    lines = REAL.read_text(encoding="utf-8").splitlines()
    order = np.random.default_rng(SEED).permutation(len(lines))
    found = {}
    for split, places in (("validation", order[:VALIDATION]), ("train", order[VALIDATION:])):
        path = folder / f"{split}.jsonl"
        with path.open("w", encoding="utf-8") as file:
            for place in sorted(places):
                source, target = lines[place].split("\t")
                row = {"source": source, "target": target, "name": f"{REAL.name}:{place + 1}"}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        found[split] = [Item(file=str(path), name=path.name, facts={"rows": len(places)})]
    return found


def _arguments() -> Any:
    parser = argparse.ArgumentParser(description="Trains the translator on real pairs.")
    parser.add_argument("--minutes", type=float, default=45.0, help="the time that it has")
    parser.add_argument("--serve", action="store_true", help="time the translations afterwards")
    parser.add_argument("--bundle", type=Path, help="time this bundle, and train nothing")
    parser.add_argument("--folder", type=Path, help="where to keep the files; else nowhere")
    parser.add_argument("--set", type=_setting, nargs="*", default=[], help="parameters that are not the defaults")
    return parser.parse_args()


def _setting(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    return name, json.loads(value)


if __name__ == "__main__":
    main()
