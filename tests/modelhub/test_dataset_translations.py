"""Data sets of translations over HTTP: pairs in TSV, CSV and JSON Lines, and the pairs that are bad."""

import json
from pathlib import Path

import pytest
from rest_framework.test import APIClient

from tests.conftest import Account
from tests.modelhub.calls import lines, problems, uploaded, warnings
from tests.modelhub.places import places

__all__ = ["places"]
pytestmark = pytest.mark.usefixtures("places")

KIND = "translation"
TSV = "text/tab-separated-values"
PAIRS = [(f"sentence {n}", f"frase {n} número") for n in range(20)]
REAL = Path(__file__).resolve().parents[2] / "../shared/data/translation_en_es/pairs.tsv"


def as_tsv(*more: str) -> bytes:
    return "".join(f"{line}\n" for line in (*("\t".join(pair) for pair in PAIRS), *more)).encode()


FORMS = {
    "tsv without a header": (as_tsv(), TSV),
    "tsv with a header": (b"source\ttarget\n" + as_tsv(), TSV),
    "csv": (("source,target\n" + as_tsv().decode().replace("\t", ",")).encode(), "text/csv"),
    "json lines": (
        "".join(json.dumps({"source": a, "target": b}) + "\n" for a, b in PAIRS).encode(),
        "application/jsonl",
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_pairs_come_in_several_forms(acme: Account, acme_client: APIClient, form: str) -> None:
    row = uploaded(acme_client, KIND, *FORMS[form])
    assert (row["state"], row["items"], row["classes"]) == ("checked", 20, [])
    assert row["report"]["counts"] == {"train": 18, "validation": 2}
    stored = lines(acme, row, "train") + lines(acme, row, "validation")
    assert sorted((line["source"], line["target"]) for line in stored) == sorted(PAIRS)
    content = row["report"]["content"]
    assert content["source"]["words"]["train"]["p50"] == 2
    assert content["target"]["words"]["train"]["p50"] == 3
    assert content["target"]["vocabulary"]["most_frequent"][0] == {"value": "frase", "count": 20}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("\tuno", "Its source is empty."),
        ("one\t", "Its target is empty."),
        ("one\t   ", "Its target is empty."),
        ("one", "1 field; expected 2"),
        ("one\tuno\tune", "3 fields; expected 2"),
        ("one " * 1000 + "\tuno", "Its source has 1,000 words; the limit is 250."),
        ("one\t" + "x" * 6000, "6,000 characters; the limit is 5,000"),
        ("nul \0\tuno", "control character"),
    ],
)
def test_a_bad_pair_is_named_and_left_out(acme_client: APIClient, line: str, words: str) -> None:
    row = uploaded(acme_client, KIND, as_tsv(line), TSV)
    assert (row["items"], row["report"]["bad"]) == (20, 1)
    assert words in problems(row)["body.tsv:21"]


def test_quotation_marks_stand_for_themselves(acme: Account, acme_client: APIClient) -> None:
    row = uploaded(acme_client, KIND, as_tsv('He said "no\tDijo "no', '"a" and "b"\t"a" y "b"'), TSV)
    assert row["report"]["bad"] == 0
    stored = {line["name"]: line["source"] for line in lines(acme, row, "train") + lines(acme, row, "validation")}
    assert stored["body.tsv:21"] == 'He said "no'
    assert stored["body.tsv:22"] == '"a" and "b"'


def test_a_third_column_everywhere_is_left_aside(acme: Account, acme_client: APIClient) -> None:
    """As manythings.org has it: whom each pair is to be attributed to."""
    body = "".join(f"{a}\t{b}\tCC-BY 2.0 #{n}\n" for n, (a, b) in enumerate(PAIRS)).encode()
    row = uploaded(acme_client, KIND, body, TSV)
    assert (row["items"], row["report"]["bad"]) == (20, 0)
    assert set(lines(acme, row, "train")[0]) == {"source", "target", "name"}


def test_pairs_that_are_doubtful_are_counted(acme_client: APIClient) -> None:
    row = uploaded(
        acme_client, KIND, as_tsv("the same\tthe same", "one\t" + "palabra " * 30, "Sentence 3!\tFrase 3, número"), TSV
    )
    assert "1 pair has the same text" in warnings(row)["untranslated"]
    assert "1 pair has one side more than 4 times" in warnings(row)["uneven-pairs"]
    assert row["report"]["duplicates"]["near"]["examples"] == [["body.tsv:4", "body.tsv:23"]]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"one\tuno\n", "train has 1 good pair;"),
        (b"just one column\n", "no column source and no target"),
        (b"\t\n", "no good pair"),
    ],
)
def test_too_little_to_learn_from_is_refused_in_words(acme_client: APIClient, body: bytes, reason: str) -> None:
    row = uploaded(acme_client, KIND, body, TSV)
    assert row["state"] == "rejected"
    assert reason in " ".join(row["report"]["reasons"])


@pytest.mark.skipif(not REAL.is_file(), reason="needs ../shared/data/translation_en_es beside the project")
def test_real_pairs_are_taken(acme_client: APIClient) -> None:
    body = b"".join(REAL.read_bytes().splitlines(keepends=True)[:5000])
    row = uploaded(acme_client, KIND, body, TSV)
    assert (row["items"], row["report"]["bad"]) == (5000, 0)
    assert row["report"]["counts"] == {"train": 4500, "validation": 500}
