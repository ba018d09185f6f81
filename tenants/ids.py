"""Public ids: a prefix that names the kind, then 128 bits that sort by time and cannot be guessed."""

import secrets
import time
from functools import partial

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base32: no i, l, o, u
MAX_LENGTH = 32


def new(prefix: str) -> str:
    """`prefix_` and 26 characters: 48 bits of Unix milliseconds, then 80 random bits (the layout of a ULID)."""
    number = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
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
