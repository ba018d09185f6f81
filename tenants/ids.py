"""Public ids: a prefix that names the kind, then 128 bits that sort by time and cannot be guessed.

What one thread makes sorts in the order in which it was made, within a millisecond, too.
"""

import secrets
import time
from functools import partial

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base32: no i, l, o, u
MAX_LENGTH = 32


def new(prefix: str) -> str:
    """`prefix_` and 26 characters: 48 bits of Unix milliseconds (a ULID's), 12 of their fraction, 68 random bits.

    The fraction is that of UUIDv7, RFC 9562, section 6.2, method 3: steps of a quarter of a microsecond.
    """
    number = time.time_ns() * 4096 // 1_000_000 << 68 | secrets.randbits(68)
    return f"{prefix}_{_base32(number)}"


def _base32(number: int) -> str:
    return "".join(ALPHABET[number >> shift & 31] for shift in range(125, -1, -5))


# One callable for each kind, so that migrations can name them.
tenant = partial(new, "ten")
member = partial(new, "mem")
api_key = partial(new, "key")
audit_event = partial(new, "aud")
notice = partial(new, "ntc")
webhook_endpoint = partial(new, "whe")
webhook_delivery = partial(new, "dlv")
quota_limit = partial(new, "lim")
plan_change = partial(new, "pch")
invoice = partial(new, "inv")
credit_entry = partial(new, "crd")
credit_note = partial(new, "crn")
dataset = partial(new, "ds")
upload = partial(new, "upl")
training_job = partial(new, "job")
search = partial(new, "sea")
evaluation = partial(new, "evl")
model = partial(new, "mdl")
version = partial(new, "ver")
deployment = partial(new, "dep")
batch_prediction = partial(new, "bat")
engine_measurement = partial(new, "emt")
request = partial(new, "req")
