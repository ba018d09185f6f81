"""Secrets and signatures of webhooks, as Standard Webhooks 1.0 has them (https://www.standardwebhooks.com).

A secret is derived: HMAC-SHA256 of the endpoint's random seed under WEBHOOK_KEY (or SECRET_KEY), so a copy of the
database signs nothing.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterable
from datetime import datetime

from django.conf import settings

from tenants.models import WebhookEndpoint

PREFIX = "whsec_"
SEED_BYTES = 32
PURPOSE = b"aiaas webhook secret 1\n"


def draw_seed() -> bytes:
    """What a new secret is derived from."""
    return secrets.token_bytes(SEED_BYTES)


def secret(seed: bytes) -> str:
    """The secret as its owner is shown it: `whsec_` and 32 bytes in base64."""
    return PREFIX + base64.b64encode(_key(seed)).decode()


def headers(*, endpoint: WebhookEndpoint, message: str, body: bytes, now: datetime) -> dict[str, str]:
    """The three headers of a message; while a rotation's grace lasts, the signature is there with both secrets."""
    seeds = [bytes(endpoint.seed)]
    if endpoint.previous_seed is not None and endpoint.previous_until is not None and now < endpoint.previous_until:
        seeds.append(bytes(endpoint.previous_seed))
    timestamp = str(int(now.timestamp()))
    return {
        "webhook-id": message,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(_signatures(seeds, f"{message}.{timestamp}.".encode() + body)),
    }


def _signatures(seeds: Iterable[bytes], content: bytes) -> Iterable[str]:
    for seed in seeds:
        digest = hmac.new(_key(seed), content, hashlib.sha256).digest()
        yield f"v1,{base64.b64encode(digest).decode()}"


def _key(seed: bytes) -> bytes:
    return hmac.new((settings.WEBHOOK_KEY or settings.SECRET_KEY).encode(), PURPOSE + seed, hashlib.sha256).digest()
