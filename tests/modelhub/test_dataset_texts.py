"""Data sets of labelled texts over HTTP: files of rows in every form and encoding, and the rows that are bad."""

import json
from pathlib import Path
from typing import Any

import pytest
from pytest_django.fixtures import Settings
from rest_framework.test import APIClient

from modelhub.datasets import rows
from tests.conftest import Account
from tests.modelhub import zips
from tests.modelhub.calls import DATASETS, create, lines, manifest_of, problems, upload, uploaded, warnings
from tests.modelhub.places import places

__all__ = ["places"]
pytestmark = pytest.mark.usefixtures("places")

KIND = "text-classification"
CSV, TSV, JSON_LINES = "text/csv", "text/tab-separated-values", "application/x-ndjson"
SHARED = Path(__file__).resolve().parents[2] / "../shared/data"


def good(count: int = 20) -> list[tuple[str, str]]:
    return [(f"text number {n}", ("ham", "spam")[n % 2]) for n in range(count)]


def as_csv(rows: list[tuple[str, str]], *, header: str = "text,label") -> bytes:
    return "\n".join([header, *(f"{text},{label}" for text, label in rows), ""]).encode()


def as_json_lines(rows: list[tuple[str, str]]) -> bytes:
    return "".join(json.dumps({"label": label, "text": text}) + "\n" for text, label in rows).encode()


def with_rows(*more: str) -> bytes:
    """A usable CSV file with more lines from line 22 on."""
    return as_csv(good()) + "".join(f"{line}\n" for line in more).encode()


FORMS = {
    "csv": (as_csv(good()), CSV),
    "csv with a charset": (as_csv(good()), "text/csv; charset=utf-8"),
    "tsv": (as_csv(good()).replace(b",", b"\t"), TSV),
    "json lines": (as_json_lines(good()), JSON_LINES),
    "zip of csv": (zips.packed({"data.csv": as_csv(good())}), "application/zip"),
    "zip of json lines": (zips.packed({"wrapped/data.jsonl": as_json_lines(good())}), "application/zip"),
    "zip of two": (
        zips.packed({"a.csv": as_csv(good()[:8]), "b.ndjson": as_json_lines(good()[8:])}),
        "application/zip",
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_rows_come_in_several_forms(acme: Account, acme_client: APIClient, form: str) -> None:
    body, content_type = FORMS[form]
    row = uploaded(acme_client, KIND, body, content_type)
    assert (row["state"], row["items"], row["classes"]) == ("checked", 20, ["ham", "spam"])
    assert row["report"]["splits"] == {"train": {"ham": 9, "spam": 9}, "validation": {"ham": 1, "spam": 1}}
    stored = lines(acme, row, "train") + lines(acme, row, "validation")
    assert sorted((line["text"], line["label"]) for line in stored) == sorted(good())
    assert all(line["name"].rpartition(":")[2].isdecimal() for line in stored)


def test_the_manifest_has_an_item_for_each_part(
    acme: Account, acme_client: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "PART_ROWS", 7)
    row = uploaded(acme_client, KIND, as_csv(good(40)), CSV)
    manifest = manifest_of(acme, row)
    assert [(item.name, item.rows) for item in manifest.items] == [
        ("train/part-0000.jsonl", 7),
        ("train/part-0001.jsonl", 7),
        ("train/part-0002.jsonl", 7),
        ("train/part-0003.jsonl", 7),
        ("train/part-0004.jsonl", 7),
        ("train/part-0005.jsonl", 1),
        ("validation/part-0000.jsonl", 4),
    ]
    assert manifest.rows("train") == 36
    assert len(lines(acme, row, "train")) == 36


def test_the_same_rows_and_seed_are_divided_alike(acme_client: APIClient) -> None:
    digests = [
        uploaded(acme_client, KIND, as_csv(good(200)), CSV, name=name, split={"seed": seed})["manifest_sha256"]
        for name, seed in (("a", 5), ("b", 5), ("c", 6))
    ]
    assert digests[0] == digests[1] != digests[2]


def test_a_share_of_each_class_validates(acme_client: APIClient) -> None:
    texts = [(f"text {n}", "rare" if n < 10 else "frequent") for n in range(110)]
    report = uploaded(acme_client, KIND, as_csv(texts), CSV, split={"validation": 0.3})["report"]
    assert report["splits"]["validation"] == {"frequent": 30, "rare": 3}


def test_a_column_says_the_split(acme: Account, acme_client: APIClient) -> None:
    texts = [f"text {n},{'ab'[n % 2]},{'train' if n < 6 else 'Validation'}" for n in range(10)]
    body = "\n".join(["text,label,split", *texts, "odd,a,test", "none,a,"]).encode()
    row = uploaded(acme_client, KIND, body, CSV)
    assert row["report"]["split"]["by"] == "given"
    assert row["report"]["counts"] == {"train": 6, "validation": 4}
    assert "Its split is 'test'" in problems(row)["body.csv:12"]
    assert [line["text"] for line in lines(acme, row, "validation")] == [f"text {n}" for n in range(6, 10)]
    drawn = uploaded(acme_client, KIND, body, CSV, name="drawn", split={"by": "ratio"})
    assert drawn["report"]["counts"] == {"train": 10, "validation": 2}


def test_files_say_the_split(acme_client: APIClient) -> None:
    files = {"train.csv": as_csv(good(10)), "validation/more.csv": as_csv([("new a", "ham"), ("new b", "spam")])}
    report = uploaded(acme_client, KIND, zips.packed(files | {"readme.md": b"Hello"}))["report"]
    assert report["counts"] == {"train": 10, "validation": 2}
    assert report["problems"][0]["name"] == "readme.md"


def test_groups_stay_together(acme: Account, acme_client: APIClient) -> None:
    body = "\n".join(["text,label,group", *(f"text {n},{'ab'[n % 2]},author {n % 7}" for n in range(70))]).encode()
    row = uploaded(acme_client, KIND, body, CSV, split={"by": "group", "validation": 0.3})
    train, validation = ({line["group"] for line in lines(acme, row, split)} for split in ("train", "validation"))
    assert len(validation) == 2
    assert not train & validation
    assert "groups-across-splits" not in warnings(row)


ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252", "shift_jis", "cp1251"]
PHRASES = {
    "shift_jis": "これは日本語のテキストです 今日はいい天気ですね",
    "cp1251": "привет мир как дела хорошо спасибо",
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_other_encodings_are_read(acme: Account, acme_client: APIClient, encoding: str) -> None:
    phrase = PHRASES.get(encoding, "El niño comió piñas en el café de señor Muñoz")
    texts = [(f"{phrase} {n}", "ab"[n % 2]) for n in range(10)]
    row = uploaded(acme_client, KIND, as_csv(texts).decode().encode(encoding), CSV)
    stored = lines(acme, row, "train") + lines(acme, row, "validation")
    assert sorted(line["text"] for line in stored) == sorted(text for text, _ in texts)
    assert ("encoding" in warnings(row)) == (not encoding.startswith("utf-8"))


def test_quotes_newlines_and_delimiters_within_quotes_are_text(acme: Account, acme_client: APIClient) -> None:
    odd = '"first line\nsecond, with ""quotes"" and ; and\ttab",ham\n"after, it",spam\n'
    row = uploaded(acme_client, KIND, as_csv(good()) + odd.encode(), CSV)
    assert row["report"]["bad"] == 0
    stored = {line["name"]: line["text"] for line in lines(acme, row, "train") + lines(acme, row, "validation")}
    assert stored["body.csv:22"] == 'first line\nsecond, with "quotes" and ; and\ttab'
    assert stored["body.csv:24"] == "after, it"


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_a_csv_file_may_have_another_delimiter(acme_client: APIClient, delimiter: str) -> None:
    row = uploaded(acme_client, KIND, as_csv(good()).replace(b",", delimiter.encode()), CSV)
    assert (row["state"], row["items"]) == ("checked", 20)


BAD_ROWS = [
    (",ham", "Its text is empty."),
    ("   ,ham", "Its text is empty."),
    ("text,", "Its label is empty."),
    ("text", "1 field; expected 2"),
    ("a,b,c", "3 fields; expected 2"),
    (f"text,{'x' * 81}", "expected at most 80 characters"),
    ("bell \x07,ham", "control character '\\x07'"),
    ("nul \0,ham", "control character '\\x00'"),
    ("x" * 20_001 + ",ham", "20,001 characters; the limit is 20,000"),
    ('"quoted" badly,ham', "quotation marks are wrong"),
    ('"never closed,ham\nswallowed,ham', "never closed: all 2 lines"),
]


@pytest.mark.parametrize(("line", "words"), BAD_ROWS)
def test_a_bad_row_is_named_and_left_out(acme_client: APIClient, line: str, words: str) -> None:
    row = uploaded(acme_client, KIND, with_rows(line), CSV)
    assert (row["state"], row["items"], row["report"]["bad"]) == ("checked", 20, 1)
    assert words in problems(row)["body.csv:22"]


def test_bytes_that_are_no_text_are_named(acme_client: APIClient) -> None:
    texts = [(f"mañana niño año {n}", "ab"[n % 2]) for n in range(20)]
    row = uploaded(acme_client, KIND, as_csv(texts) + b"b\xffd,a\n", CSV)
    assert "no text in utf-8" in problems(row)["body.csv:22"]
    assert row["items"] == 20


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"not json", "It is no JSON"),
        (b"[1, 2]", "expected a JSON object"),
        (b'{"text": 5, "label": "ham"}', "Its text is '5'"),
        (b'{"label": "ham"}', "Its text is 'None'"),
        (b'{"text": "a", "label": true}', "Its label is 'True'"),
        (b'{"text": "a", "label": ["ham"]}', "Its label is"),
        (b'{"text": "\\ud800", "label": "ham"}', "It is no JSON"),
    ],
)
def test_a_bad_line_of_json_is_named(acme_client: APIClient, line: bytes, words: str) -> None:
    row = uploaded(acme_client, KIND, as_json_lines(good()) + line + b"\n", JSON_LINES)
    assert (row["items"], row["report"]["bad"]) == (20, 1)
    assert words in problems(row)["body.jsonl:21"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"text,label\n", "no good text"),
        (b"\n", "no good text"),
        (b"a,b\n1,2\n", "no column text and no label; it has 'a', 'b'"),
        (b"text,text,label\na,b,c\n", "Two of its columns are called 'text'"),
        (as_csv([(f"t{n}", "only") for n in range(9)]), "one class only, 'only'"),
        (as_csv([(f"t{n}", f"class {n}") for n in range(1001)]), "1,001 classes"),
        (as_csv([("a", "x"), ("b", "y")]), "validation has no text"),
        ((",".join(f"c{n}" for n in range(10_000)) + "\n").encode(), "10,000 columns; the limit is 2,000"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20, "no good text"),
        (b'text,label\n"' + b"x" * 1_100_000, "never closed"),
        (b"text,label\n" + b"x" * 4_100_000, "Line 2 has more than 4,000,000 characters"),
    ],
)
def test_a_file_that_cannot_work_is_refused_in_words(acme_client: APIClient, body: bytes, reason: str) -> None:
    row = uploaded(acme_client, KIND, body, CSV)
    assert row["state"] == "rejected"
    assert reason in " ".join(row["report"]["reasons"])


def test_what_makes_a_result_doubtful_is_a_warning(acme_client: APIClient) -> None:
    texts = [*good(), ("Text  number 3!", "spam"), ("text number 4", "spam"), ("=SUM(A1:A9)", "ham"), ("x", "Spam")]
    found = warnings(uploaded(acme_client, KIND, as_csv(texts), CSV))
    assert "'Spam' and 'spam'" in found["labels-alike"]
    assert "'body.csv:24'" in found["formulas"]
    assert "'body.csv:6' and 'body.csv:23'" in found["contradicting-labels"]
    assert "1 of the classes, for example 'Spam'" in found["class-not-validated"]


def test_texts_that_are_nearly_the_same_are_counted_and_kept_together(acme_client: APIClient) -> None:
    texts = [(f"{word} {n % 10}{'!' * (n // 10)}", "ab"[n % 2]) for n in range(40) for word in ("Hello", "hello")]
    report = uploaded(acme_client, KIND, as_csv(texts), CSV, split={"validation": 0.25})["report"]
    assert report["duplicates"]["exact"]["contents"] == 0
    assert (report["duplicates"]["near"]["contents"], report["duplicates"]["near"]["items"]) == (10, 80)
    assert report["duplicates"]["near"]["across_splits"] == 0
    assert report["splits"]["validation"] == {"a": 16, "b": 16}


def test_texts_in_both_given_splits_are_a_warning(acme_client: APIClient) -> None:
    files = {
        "train.csv": as_csv(good(10)),
        "validation.csv": as_csv([("text number 3", "spam"), ("TEXT number 4", "ham")]),
    }
    found = warnings(uploaded(acme_client, KIND, zips.packed(files)))
    assert "1 text is in both splits" in found["duplicates-across-splits"]
    assert "'train.csv:5' and 'validation.csv:2'" in found["duplicates-across-splits"]
    assert "2 texts are in both splits but for case" in found["near-duplicates-across-splits"]


def test_lengths_and_vocabulary_are_reported(acme_client: APIClient) -> None:
    body = as_json_lines([("One two", "a"), ("two, THREE", "b")] * 5)
    content = uploaded(acme_client, KIND, body, JSON_LINES)["report"]["content"]
    assert content["words"]["train"] == {"min": 2, "mean": 2.0, "p50": 2, "p95": 2, "max": 2}
    assert content["vocabulary"]["words"] == 3
    assert content["vocabulary"]["most_frequent"][0] == {"value": "two", "count": 10}


def test_rows_over_the_limit_of_unpacked_bytes_are_refused(acme_client: APIClient, settings: Settings) -> None:
    settings.DATASET_MAX_UNPACKED_BYTES = 500
    row = uploaded(acme_client, KIND, zips.packed({"a.csv": as_csv(good(40))}))
    assert "more than 500 bytes" in row["report"]["reasons"][0]


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "image/png"])
def test_another_content_type_is_refused(acme_client: APIClient, content_type: str) -> None:
    answer = upload(acme_client, create(acme_client, "x", KIND), as_csv(good()), content_type)
    assert answer.status_code == 415
    assert "text/csv" in answer.json()["detail"]


def test_a_data_set_of_texts_is_created_with_its_split(acme_client: APIClient) -> None:
    split = {"by": "ratio", "validation": 0.2, "seed": 7}
    row = acme_client.post(DATASETS, {"name": "x", "kind": KIND, "split": split}, format="json").json()
    assert row["split"] == split | {"column": ""}


@pytest.mark.skipif(not (SHARED / "sms_spam").is_dir(), reason="needs ../shared/data/sms_spam beside the project")
def test_real_messages_are_taken(acme_client: APIClient) -> None:
    row: Any = uploaded(acme_client, KIND, (SHARED / "sms_spam/train.csv").read_bytes(), CSV)
    assert (row["items"], row["report"]["bad"]) == (4106, 0)
    assert row["report"]["splits"]["validation"] == {"ham": 360, "spam": 50}
    assert row["report"]["duplicates"]["near"]["across_splits"] == 0
