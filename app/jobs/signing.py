"""How webhooks are signed: by Standard Webhooks, and as the systems do whose receivers exist.

Source: the specification of Standard Webhooks; its `webhook-id` stays the same in each try, so that
receivers can drop what comes twice.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime

from standardwebhooks import Webhook

from app.config.webhooks import SECRET_PREFIX

STANDARD, MODAL, ORATOR = "standard", "modal", "orator"


def signed_headers(
    form: str, secret: str, delivery_id: str, body: bytes, now_s: float
) -> dict[str, str]:
    """The headers of one try. `secret` empty: unsigned."""
    sent = datetime.fromtimestamp(int(now_s), UTC)
    headers = {"webhook-id": delivery_id, "webhook-timestamp": str(int(now_s))}
    if not secret:
        return headers
    webhook = Webhook(secret if secret.startswith(SECRET_PREFIX) else secret.encode())
    headers["webhook-signature"] = webhook.sign(delivery_id, sent, body.decode())
    return headers | _own_headers(form, secret, body)


def _own_headers(form: str, secret: str, body: bytes) -> dict[str, str]:
    """What a system's receivers look for."""
    if form == MODAL:
        digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        return {"X-Modal-Signature": digest}
    if form == ORATOR:
        return {"Authorization": f"Bearer {secret}"}
    return {}
