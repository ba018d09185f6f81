"""Letters: mail to a tenant's owners, sent after the commit and beside everything else; one that fails is logged."""

import logging
import smtplib
import threading

from django.conf import settings
from django.core.mail import send_mail
from django.db import transaction

from tenants.models import Membership, Role

logger = logging.getLogger(__name__)


def send_to_owners(*, tenant_id: str, subject: str, text: str) -> None:
    """Has a letter sent once the caller's transaction is committed; nothing if no mail server is configured."""
    if not settings.EMAIL_HOST:
        return
    rows = Membership.objects.filter(tenant=tenant_id, role=Role.OWNER, user__is_active=True).exclude(user__email="")
    owners = list(rows.values_list("user__email", flat=True))
    if owners:
        transaction.on_commit(lambda: _post(subject, text, owners))


def _post(subject: str, text: str, to: list[str]) -> None:
    """In a thread of its own: whoever settles usage waits for no mail server."""
    threading.Thread(target=_send, args=(subject, text, to), name="letters", daemon=True).start()


def _send(subject: str, text: str, to: list[str]) -> None:
    try:
        for address in to:  # one each: owners do not see one another's addresses
            send_mail(subject, text, None, [address])
    except (OSError, smtplib.SMTPException):
        logger.exception("the letter %r to %d owners could not be sent", subject, len(to))
