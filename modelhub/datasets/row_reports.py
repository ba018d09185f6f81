"""What the stored rows of a data set are like: counted in one pass, compared on disk."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from modelhub.datasets import row_intake, rows
from modelhub.datasets.archives import shown
from modelhub.datasets.kinds.base import Open
from modelhub.datasets.manifests import Manifest
from modelhub.datasets.reports import Leak, Report, judge_leaks
from modelhub.datasets.row_intake import Taken
from modelhub.datasets.spool import Spool, Spooled


class Tally(Protocol):
    """A kind's count of its rows."""

    noun: str

    def add(self, values: Mapping[str, Any], *, split: str) -> Taken:
        """Counts a stored row; gives what it is compared by."""
        ...

    def judge(self, report: Report, spool: Spool) -> None:
        """Adds what the rows are like, and why they cannot be used or how far that is doubtful."""
        ...


def judge(manifest: Manifest, report: Report, *, tally: Tally, open_file: Open, scratch: Path) -> None:
    """Reads all rows of the data set once, and writes down what they are like."""
    found: Counter[tuple[str, str]] = Counter()
    with Spool(scratch / "compared.sqlite", seed=0) as spool:
        for split, values in rows.lines_of(manifest.items, open_file=open_file):
            taken = tally.add(values, split=split)
            found[split, taken.label] += 1
            exact, near = row_intake.digests(taken)
            spool.add(Spooled(values["name"], split, taken.label, values.get("group", ""), exact, near, b""))
        spool.flush()
        report.count(found, manifest.classes)
        if not spool.count:
            return
        _compare(report, spool, noun=tally.noun)
        tally.judge(report, spool)


def _compare(report: Report, spool: Spool, *, noun: str) -> None:
    """What is there several times, and what stands on both sides."""
    for name, column in (("exact", "digest"), ("near", "near")):
        contents, items, examples = spool.same(column)
        leaked, leaks = spool.leaks(column)
        report.duplicates[name] = {
            "contents": contents,
            "items": items,
            "examples": examples,
            "across_splits": leaked,
            "across_splits_examples": leaks,
        }
    exact, near = report.duplicates["exact"], report.duplicates["near"]
    leaked_pairs = [Leak(one, other, exact["across_splits"]) for one, other in exact["across_splits_examples"]]
    judge_leaks(report, noun=noun, contents=leaked_pairs, groups=spool.groups_across_splits(), group="group")
    if near["across_splits"] > exact["across_splits"]:
        pair = near["across_splits_examples"][0]
        report.warn(
            "near-duplicates-across-splits",
            f"{near['across_splits']} {noun}s are in both splits but for case, spaces and punctuation; for example "
            f"{shown(pair[0])} and {shown(pair[1])}.",
        )
