"""One try to post a webhook, to real receivers."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from app.domain.errors import ConfigurationError
from app.jobs.posting import Posted, Poster
from app.jobs.signing import MODAL, ORATOR, STANDARD, check_secret, signed_headers
from app.storage.egress import EgressRules
from tests.support.ports import free_port
from tests.support.site import (
    Answer,
    Site,
    dripping,
    endless,
    own_certificate,
    redirect,
    silent,
    status,
)

ALLOWED, REFUSED = "127.0.0.2", "127.0.0.1"
RULES = EgressRules([ALLOWED])
BODY = '{"status": "done", "text": "Grüße"}'.encode()
ENCODED = "whsec_" + base64.b64encode(b"a secret of thirty-two characters").decode()
TEXT = "any text; even with ümläuts"


@pytest.fixture(scope="module")
def receiver() -> Iterator[Site]:
    with Site(ALLOWED, free_port()) as site:
        yield site


def post(receiver: Site, answer: Answer, timeout_s: float = 30) -> Posted:
    receiver.answers["/hook"] = answer
    return Poster(RULES, timeout_s).post(f"{receiver.url}/hook", BODY, {"webhook-id": "msg_1"})


# -- signatures ------------------------------------------------------------------------------------


@pytest.mark.parametrize("secret", [ENCODED, TEXT])
@pytest.mark.parametrize("form", [STANDARD, MODAL, ORATOR])
def test_signatures(receiver: Site, form: str, secret: str) -> None:
    """As the receivers of each system check them."""
    receiver.received.clear()
    receiver.answers["/signed"] = status(204)
    signed = signed_headers(form, secret, "msg_7", BODY, time.time())
    assert Poster(RULES, 30).post(f"{receiver.url}/signed", BODY, signed).accepted
    [got] = receiver.received
    assert (got.method, got.body, got.headers["content-type"]) == ("POST", BODY, "application/json")
    library = Webhook(secret if secret == ENCODED else secret.encode())
    assert library.verify(got.body, got.headers) == json.loads(BODY)
    key = base64.b64decode(secret.removeprefix("whsec_")) if secret == ENCODED else secret.encode()
    content = b"msg_7." + got.headers["webhook-timestamp"].encode() + b"." + got.body
    mac = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    assert got.headers["webhook-signature"] == f"v1,{mac}"
    if form == MODAL:
        mac = hmac.new(secret.encode(), got.body, hashlib.sha256).hexdigest()
        assert got.headers["x-modal-signature"] == mac
    if form == ORATOR:
        received = got.headers["authorization"].encode("latin-1").decode()  # http.server's reading
        assert received == f"Bearer {secret}"
    else:
        assert "authorization" not in got.headers


def test_without_a_secret() -> None:
    assert signed_headers(MODAL, "", "msg_7", BODY, 12.7) == {
        "webhook-id": "msg_7",
        "webhook-timestamp": "12",
    }


@pytest.mark.parametrize("secret", ["whsec_", "whsec_ä", "whsec_a", "two\nlines"])
def test_secrets_that_cannot_sign(secret: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^WEBHOOK_SECRET: ") as caught:
        check_secret(secret)
    assert "two" not in caught.value.message
    assert check_secret(TEXT) == TEXT


# -- answers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "accepted", "final"),
    [
        (200, True, True), (204, True, True), (301, False, False), (400, False, True),
        (404, False, True), (408, False, False), (410, False, True), (425, False, False),
        (429, False, False), (500, False, False), (503, False, False),
    ],
)  # fmt: skip
def test_statuses(receiver: Site, code: int, accepted: bool, final: bool) -> None:
    posted = post(receiver, status(code, Retry_After="120"))
    assert posted == Posted(code, retry_after_s=120)
    assert (posted.accepted, posted.final) == (accepted, final)


def test_user_and_password_of_an_address(receiver: Site) -> None:
    receiver.received.clear()
    receiver.answers["/hook"] = status(204)
    address = receiver.url.replace("://", "://anna:p%40ss@") + "/hook"
    assert Poster(RULES, 30).post(address, BODY, {}).accepted
    assert Poster(RULES, 30).post(address, BODY, {"Authorization": "Bearer theirs"}).accepted
    first, second = (got.headers["authorization"] for got in receiver.received)
    assert base64.b64decode(first.removeprefix("Basic ")) == b"anna:p@ss"
    assert second == "Bearer theirs"


def test_an_answer_without_end(receiver: Site) -> None:
    assert post(receiver, endless()).status == 200


def test_a_redirect_is_not_followed(receiver: Site) -> None:
    with Site(REFUSED, free_port()) as private:
        assert post(receiver, redirect(f"{private.url}/hook")).status == 302
        assert private.received == []


@pytest.mark.parametrize("answer", [silent, dripping])
def test_a_slow_receiver(receiver: Site, answer: Answer) -> None:
    posted = post(receiver, answer, timeout_s=1)
    assert posted == Posted(reason="No answer within 1 seconds.")
    assert not posted.final
    assert post(receiver, status(204)).accepted


def test_a_receiver_that_is_gone() -> None:
    posted = Poster(RULES, 30).post(f"http://{ALLOWED}:{free_port()}/hook", BODY, {})
    assert posted == Posted(reason="The connection was refused.")
    assert not posted.final


def test_certificates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = own_certificate(tmp_path, ALLOWED)
    with Site(ALLOWED, free_port(), certificate) as site:
        site.answers["/hook"] = status(204)
        posted = Poster(RULES, 30).post(f"{site.url}/hook", BODY, {})
        assert posted == Posted(reason="The certificate is not valid.")
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert Poster(RULES, 30).post(f"{site.url}/hook", BODY, {}).accepted
        assert len(site.received) == 1


# -- where it must not go --------------------------------------------------------------------------


@pytest.mark.parametrize("host", [REFUSED, "localhost", "0x7f000001", "[::ffff:127.0.0.1]"])
def test_a_private_address(host: str) -> None:
    with Site(REFUSED, free_port()) as private:
        port = private.host.rpartition(":")[2]
        posted = Poster(RULES, 30).post(f"http://{host}:{port}/hook", BODY, {})
        assert posted == Posted(reason="The address is not public.", refused=True)
        assert posted.final
        assert private.received == []


def test_a_name_that_changes(receiver: Site) -> None:
    """The connection goes to the address that was checked."""
    port = int(receiver.host.rpartition(":")[2])
    answers = [[ALLOWED], [REFUSED]]

    def look_up(host: str, port: int) -> list[str]:
        return answers.pop(0)

    with Site(REFUSED, port) as private:
        receiver.answers["/hook"] = status(204)
        poster = Poster(RULES, 30, look_up)
        url = f"http://rebinding.example:{port}/hook"
        assert poster.post(url, BODY, {}).accepted
        assert poster.post(url, BODY, {}).reason == "The address is not public."
        assert private.received == []
    assert receiver.received[-1].headers["host"] == f"rebinding.example:{port}"


def test_a_name_with_a_private_address_beside_a_public_one(receiver: Site) -> None:
    port = int(receiver.host.rpartition(":")[2])
    with Site(REFUSED, port) as private:
        receiver.answers["/hook"] = status(204)
        poster = Poster(RULES, 30, lambda host, port: [REFUSED, ALLOWED])
        assert poster.post(f"http://two.example:{port}/hook", BODY, {}).accepted
        assert private.received == []
