"""How webhooks are signed: by Standard Webhooks, and as the systems do whose receivers exist.

Source: the specification of Standard Webhooks; its `webhook-id` stays the same in each try, so that
receivers can drop what comes twice.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime

from standardwebhooks import Webhook
from standardwebhooks.webhooks import EmptyWebhookSecretError

from app.domain.errors import ConfigurationError

SECRET_PREFIX = "whsec_"
STANDARD, MODAL, ORATOR = "standard", "modal", "orator"


def check_secret(secret: str) -> str:
    """The secret. Raises ConfigurationError, which does not show it."""
    if not secret.isprintable():
        raise ConfigurationError("WEBHOOK_SECRET: it contains a line break or a control character.")
    try:
        if secret:
            _signer(secret)
    except (ValueError, EmptyWebhookSecretError):
        raise ConfigurationError("WEBHOOK_SECRET: what follows whsec_ is not Base64.") from None
    return secret


def _signer(secret: str) -> Webhook:
    return Webhook(secret if secret.startswith(SECRET_PREFIX) else secret.encode())


def signed_headers(
    form: str, secret: str, delivery_id: str, body: bytes, now_s: float
) -> dict[str, str]:
    """The headers of one try. `secret` empty: unsigned."""
    sent = datetime.fromtimestamp(int(now_s), UTC)
    headers = {"webhook-id": delivery_id, "webhook-timestamp": str(int(now_s))}
    if not secret:
        return headers
    headers["webhook-signature"] = _signer(secret).sign(delivery_id, sent, body.decode())
    return headers | _own_headers(form, secret, body)


def _own_headers(form: str, secret: str, body: bytes) -> dict[str, str]:
    """What a system's receivers look for."""
    if form == MODAL:
        digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        return {"X-Modal-Signature": digest}
    if form == ORATOR:
        return {"Authorization": f"Bearer {secret}"}
    return {}
