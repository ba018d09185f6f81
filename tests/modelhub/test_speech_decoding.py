"""Connectionist temporal classification, against all alignments by hand; the language of words; word times."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as trials
from hypothesis import strategies as st

from modelhub.recipes.speech import ctc, language, settings
from modelhub.recipes.speech.ctc import LogProbabilities
from modelhub.recipes.speech.decoding import Decoder, Word
from modelhub.recipes.speech.language import Words
from modelhub.recipes.speech.settings import Settings

TEXTS = ["go on", "go", "stop", "no no go"]
ALPHABET = language.alphabet_of(TEXTS)


def drawn(seed: int, *, steps: int, labels: int, sharpness: float = 2.0) -> LogProbabilities:
    """Random probabilities, (steps, labels + 1)."""
    logits = np.random.default_rng(seed).normal(0, sharpness, (steps, labels + 1))
    found: LogProbabilities = (logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)).astype(np.float32)
    return found


def collapsed(path: tuple[int, ...], blank: int) -> tuple[int, ...]:
    return tuple(label for label, _ in itertools.groupby(path) if label != blank)


def by_hand(log_probabilities: LogProbabilities) -> dict[tuple[int, ...], float]:
    """The probability of each text: the sum over all paths that collapse into it."""
    steps, classes = log_probabilities.shape
    found: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(classes), repeat=steps):
        likely = float(np.exp(log_probabilities[np.arange(steps), path].astype(np.float64).sum()))
        text = collapsed(path, classes - 1)
        found[text] = found.get(text, 0.0) + likely
    return found


def spelt(text: str, *, sure: float = 0.99, alphabet: str = ALPHABET) -> LogProbabilities:
    """Probabilities that say so: each character for one step, a blank after it."""
    blank = len(alphabet)
    path = [label for character in text for label in (alphabet.index(character), blank)]
    found = np.full((len(path), blank + 1), (1 - sure) / blank)
    found[np.arange(len(path)), path] = sure
    spelled: LogProbabilities = np.log(found).astype(np.float32)
    return spelled


@trials(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 3))
def test_the_likelihood_is_the_sum_over_all_alignments(seed: int, steps: int, labels: int) -> None:
    log_probabilities = drawn(seed, steps=steps, labels=labels)
    for text, likely in by_hand(log_probabilities).items():
        assert np.exp(ctc.log_likelihood(log_probabilities, list(text))) == pytest.approx(likely, rel=1e-5)


def test_a_text_that_does_not_fit_has_no_likelihood_and_no_alignment() -> None:
    log_probabilities = drawn(0, steps=2, labels=2)
    assert ctc.steps_needed([0, 0]) == 3
    assert ctc.log_likelihood(log_probabilities, [0, 0]) == -np.inf
    with pytest.raises(ValueError, match="2 labels do not fit into 2 steps"):
        ctc.align(log_probabilities, [0, 0])


@trials(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 3))
def test_a_wide_beam_finds_the_likeliest_text_of_all(seed: int, steps: int, labels: int) -> None:
    log_probabilities = drawn(seed, steps=steps, labels=labels)
    best = max(by_hand(log_probabilities).items(), key=lambda one: one[1])[0]
    assert tuple(ctc.beam(log_probabilities, width=10_000, cutoff=0)) == best


@trials(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 4))
def test_greedy_takes_the_likeliest_path(seed: int, steps: int, labels: int) -> None:
    log_probabilities = drawn(seed, steps=steps, labels=labels)
    path = tuple(int(label) for label in log_probabilities.argmax(axis=1))
    assert tuple(ctc.greedy(log_probabilities)) == collapsed(path, labels)


def test_the_likeliest_text_is_not_always_that_of_the_likeliest_path() -> None:
    # A blank twice is the likeliest path, but all paths of "a" together are likelier than it.
    log_probabilities = np.log(np.asarray([[0.4, 0.6], [0.4, 0.6]], np.float32))
    assert ctc.greedy(log_probabilities) == []
    assert ctc.beam(log_probabilities, width=4) == [0]


@trials(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 3), st.data())
def test_an_alignment_is_the_likeliest_path_of_its_text(
    seed: int, steps: int, labels: int, data: st.DataObject
) -> None:
    log_probabilities = drawn(seed, steps=steps, labels=labels)
    text = data.draw(st.sampled_from(sorted(by_hand(log_probabilities))))
    paths = (p for p in itertools.product(range(labels + 1), repeat=steps) if collapsed(p, labels) == text)
    best = max(paths, key=lambda path: log_probabilities[np.arange(steps), path].sum())
    runs = []
    for label, run in itertools.groupby(enumerate(best), key=lambda place: place[1]):
        places = [place for place, _ in run]
        if label != labels:
            runs.append((places[0], places[-1] + 1))
    assert ctc.align(log_probabilities, list(text)) == runs


def test_long_sounds_do_not_come_to_nothing() -> None:
    log_probabilities = np.tile(drawn(3, steps=50, labels=4), (40, 1))
    assert ctc.beam(log_probabilities, width=8)


def words(*, weight: float = 1.0, bonus: float = 1.0, texts: list[str] = TEXTS) -> Words:
    return Words(language.counted(texts), alphabet=ALPHABET, weight=weight, bonus=bonus)


def test_the_probabilities_of_the_next_word_add_up_to_one() -> None:
    counts = language.counted(TEXTS)
    known = words()
    for before in range(-1, len(counts.words)):
        following = sum(known.probability(before, word) for word in range(-1, len(counts.words)))
        assert following == pytest.approx(1.0)
    go, no = counts.words.index("go"), counts.words.index("no")
    assert known.probability(no, go) > known.probability(go, go)


def test_only_known_words_are_written() -> None:
    labels = [ALPHABET.index(character) for character in "gop"]
    text = ctc.beam(spelt("gop on"), width=64, language=words(), cutoff=1e-6)
    assert [ALPHABET[label] for label in labels] == list("gop")
    assert {*"".join(ALPHABET[label] for label in text).split()} <= {"go", "on", "stop", "no"}


def test_what_usually_follows_decides_what_sounds_alike() -> None:
    sound = spelt("no no go")
    unsure = sound.copy()
    g, n = ALPHABET.index("g"), ALPHABET.index("n")
    # The first letter of the last word might as well be another, a little rather.
    unsure[12, [g, n]] = np.log([0.48, 0.5])
    plain = ctc.beam(unsure, width=64)
    weighed = ctc.beam(unsure, width=64, language=words())
    assert "".join(ALPHABET[label] for label in plain) == "no no no"
    assert "".join(ALPHABET[label] for label in weighed) == "no no go"


@trials(deadline=None, max_examples=15)
@given(st.integers(0, 2_000))
def test_a_wide_beam_weighs_texts_by_their_words(seed: int) -> None:
    """Against all texts of one or two words, each by its likelihood times the language's probability."""
    log_probabilities = drawn(seed, steps=6, labels=len(ALPHABET), sharpness=1.0)
    known, counts = words(weight=0.7, bonus=2.0), language.counted(TEXTS)
    best, most = "", -np.inf
    for number in range(3):
        for path in itertools.product(range(len(counts.words)), repeat=number):
            text = " ".join(counts.words[word] for word in path)
            borders = [-1, *path, -1]
            score = sum(0.7 * np.log(known.probability(*pair)) for pair in itertools.pairwise(borders))
            score += number * np.log(2.0)
            score += ctc.log_likelihood(log_probabilities, [ALPHABET.index(c) for c in text])
            if score > most:
                best, most = text, score
    found = ctc.beam(log_probabilities, width=100_000, language=known, cutoff=0)
    assert "".join(ALPHABET[label] for label in found) == best


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("U M N  Y H SIX", "u m n y h six"),
        ("Don’t, stop!", "don't stop"),
        ("ﬁve\t—\nΆλφα", "five άλφα"),
        ("'", ""),
        ("…!?", ""),
        ("re\u0301sume\u0301", "résumé"),
        ("a\0b", "ab"),
    ],
)
def test_transcripts_are_normalised(written: str, normal: str) -> None:
    assert language.normalised(written) == normal


def test_few_words_said_often_are_a_closed_list() -> None:
    assert language.is_closed(["zero", "one"] * 50)
    assert not language.is_closed([f"word{number}" for number in range(50)])
    assert not language.is_closed([f"word{number}" for number in range(3000)] * 3)


def known(*, beam: int = 16, counts: language.Counts | None = None) -> Settings:
    return Settings(
        alphabet=ALPHABET,
        mean=np.zeros(64, np.float32),
        deviation=np.ones(64, np.float32),
        beam=beam,
        language_weight=0.5,
        word_bonus=0.5,
        counts=counts,
        usual_seconds=1.5,
    )


@pytest.mark.parametrize("beam", [1, 16])
def test_words_have_their_times(beam: int) -> None:
    heard = Decoder(known(beam=beam)).heard(spelt("go on"))
    assert heard.text == "go on"
    # A step is 20 ms: g at 0, o at 2, the space at 4, o at 6, n at 8.
    assert heard.words == (Word("go", 0.0, 0.06), Word("on", 0.12, 0.18))
    assert 0.9 < heard.confidence < 1


def test_confidence_is_the_texts_probability_a_word() -> None:
    sound = spelt("go on", sure=0.8)
    heard = Decoder(known()).heard(sound)
    labels = [ALPHABET.index(character) for character in "go on"]
    assert heard.confidence == pytest.approx(np.exp(ctc.log_likelihood(sound, labels) / 2))


def test_no_steps_say_nothing() -> None:
    heard = Decoder(known()).heard(np.zeros((0, len(ALPHABET) + 1), np.float32))
    assert (heard.text, heard.words) == ("", ())


def test_settings_are_read_as_they_were_written(tmp_path: Path) -> None:
    before = known(counts=language.counted(TEXTS))
    before.write(tmp_path / settings.FILE)
    after = settings.read(tmp_path / settings.FILE)
    assert json.loads((tmp_path / settings.FILE).read_text())["format"] == 1
    assert after.counts == before.counts
    sound = spelt("no no go", sure=0.5)
    assert Decoder(after).heard(sound) == Decoder(before).heard(sound)
    assert after.mean.tolist() == before.mean.tolist()
