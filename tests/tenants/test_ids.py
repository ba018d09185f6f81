"""Public ids: they sort in the order in which they were made, and none comes twice."""

import re
import time

from tenants import ids


def test_ids_sort_as_they_were_made_within_a_millisecond_too() -> None:
    made = [ids.new("job") for _ in range(2000)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)


def test_an_id_begins_with_the_millisecond_in_which_it_was_made() -> None:
    before = time.time_ns() // 1_000_000
    made = ids.new("job")
    assert re.fullmatch(r"job_[0-9abcdefghjkmnpqrstvwxyz]{26}", made)
    number = 0
    for letter in made.removeprefix("job_"):
        number = number * 32 + ids.ALPHABET.index(letter)
    assert before <= number >> 80 <= time.time_ns() // 1_000_000
