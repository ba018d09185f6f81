"""What a version's answers are held to: true labels as the version calls them, and as rows of a table have them."""

from typing import Any

import numpy as np

from modelhub import assessment
from modelhub.assessment import Answers

MANIFEST: dict[str, Any] = {"labels": ["1", "2"], "preprocessing": {"target": "grade"}, "decision": {}}
SCORES = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]], np.float32)


def wrong(truths: list[Any], **manifest: Any) -> list[tuple[str, str]]:
    answers = Answers(
        outputs={"scores": SCORES}, truths=truths, names=["a", "b", "c"], slices=[{}, {}, {}]
    )  # fmt: skip
    return [(one["truth"], one["answer"]) for one in assessment.mistakes(answers, manifest=MANIFEST | manifest)]


def test_an_integer_of_a_table_is_a_label_though_the_version_does_not_know_it() -> None:
    """0 and 7 are grades that nobody had at training: neither is the number of a label."""
    assert wrong([{"grade": 1}, {"grade": 7}, {"grade": 0}]) == [("7", "2"), ("0", "1")]


def test_an_integer_by_itself_is_the_number_of_a_label() -> None:
    assert wrong([0, 0, np.int64(1)], labels=["cat", "dog"]) == [("cat", "dog"), ("dog", "cat")]
