"""What an operator sees of an evaluation's figures."""

from typing import Any

from modelhub.admin import evaluation_pages

RESULT: dict[str, Any] = {
    "rows": 80,
    "metrics": {
        "accuracy": 0.975,
        "rows": 80,
        "loss": 0.106185,
        "macro": {"f1": 0.97},
        "classes": {"no": {"rows": 55, "f1": 0.98}, "yes": {"rows": 25, "f1": 0.96, "recall": None}},
        "confusion_matrix": {"labels": ["no", "yes"], "matrix": [[54, 1], [1, 24]]},
    },
    "slices": {
        "city": {
            "groups": {"Lima": {"rows": 33, "accuracy": 0.9697}, "Oslo": {"rows": 25, "accuracy": 1.0}},
            "groups_left_out": 3,
            "rows_without": 0,
        }
    },
    "calibration": None,
    "thresholds": {
        "positive": "yes",
        "best": {"threshold": 0.657303, "f1": 0.98},
        "table": [{"threshold": 0.05, "f1": 0.714286}, {"threshold": 0.1, "f1": 0.78125}],
    },
}


def test_each_question_has_a_table() -> None:
    found = list(evaluation_pages.tables(RESULT))
    assert [(one.title, one.header) for one in found] == [
        ("All rows", ["accuracy", "rows", "loss"]),
        ("Each class", ["class", "rows", "f1", "recall"]),
        ("By city, the largest 2", ["city", "rows", "accuracy"]),
        ("Thresholds of 'yes', best at 0.6573", ["from", "f1"]),
    ]
    assert found[0].rows == [["0.975", 80, "0.1062"]]
    assert found[1].rows == [["no", 55, "0.98", ""], ["yes", 25, "0.96", ""]]
    assert found[2].rows == [["Lima", 33, "0.9697"], ["Oslo", 25, "1"]]
    assert found[3].rows == [["0.05", "0.7143"], ["0.1", "0.7812"]]


def test_what_was_not_measured_has_none() -> None:
    plain = {"rows": 3, "metrics": {"word_error_rate": 0.25}, "slices": {}, "calibration": None, "thresholds": None}
    assert [(one.title, one.rows) for one in evaluation_pages.tables(plain)] == [("All rows", [["0.25"]])]
