"""Rate limits of addresses, also behind proxies, counted here or in a real Redis."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from app.access import rate_limits
from app.access.rate_limits import RateLimits
from app.api.rate_limits import rate_limit_headers
from tests.support.forms import connect, request_head
from tests.support.redis_server import RedisServer, running_redis
from tests.support.server import Server, running_server
from tests.support.waiting import eventually

REQUESTS = 5  # in a minute
AUDIO_S = 6  # in an hour
PROXY = "127.0.0.5"  # Linux takes any address in 127.0.0.0/8 for the machine's own


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running_redis(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture(scope="module")
def limited(store: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service with narrow limits, behind a proxy."""
    settings = {
        "RATE_LIMIT_REQUESTS_PER_MINUTE": REQUESTS,
        "RATE_LIMIT_AUDIO_MINUTES_PER_HOUR": AUDIO_S / 60,
        "RATE_LIMIT_STORAGE_URL": store.url,
        "TRUSTED_PROXIES": f"{PROXY}, 10.0.0.0/8",
    }
    with running_server(tmp_path_factory.mktemp("limited"), **settings) as running:
        yield running
        eventually(lambda: running.temp_files() == [])


@pytest.fixture(autouse=True)
def _within_a_minute(request: pytest.FixtureRequest) -> None:
    """Windows begin with the minute: counts are exact where none does in the middle of a test."""
    left_s = 60 - time.time() % 60
    if left_s < (40 if "redis" in request.node.name else 15):
        time.sleep(left_s)


def post(
    server: Server,
    client: str,
    audio_s: float = 0,
    path: str = "/asr",
    sent_from: str = PROXY,
) -> httpx.Response:
    """Silence of a client behind the proxy; no file at all where it has no length."""
    files = {"audio_file": ("silence", bytes(round(audio_s * 16_000) * 2))} if audio_s else None
    with httpx.Client(transport=httpx.HTTPTransport(local_address=sent_from)) as session:
        return session.post(
            f"{server.url}{path}?encode=false",
            files=files,
            headers={"X-Forwarded-For": client},
            timeout=60,
        )


def remaining(response: httpx.Response) -> int:
    return int(response.headers["ratelimit-remaining"])


def limited_by(response: httpx.Response) -> str:
    """What a refusal says, once it has all that a client goes by."""
    assert response.status_code == 429, response.text
    assert int(response.headers["retry-after"]) >= 1
    assert int(response.headers["ratelimit-reset"]) >= 1
    assert response.headers["x-request-id"]
    detail: str = response.json()["detail"]
    return detail


# -- requests ------------------------------------------------------------------------------------


def test_requests_in_a_minute(limited: Server) -> None:
    for left in reversed(range(REQUESTS)):
        response = post(limited, "192.0.2.1")
        assert response.status_code == 422  # nothing was sent; it counts all the same
        assert response.headers["ratelimit-limit"] == str(REQUESTS)
        assert remaining(response) == left
        assert 1 <= int(response.headers["ratelimit-reset"]) <= 120
        assert response.headers["ratelimit-policy"] == (
            f'"requests";q={REQUESTS};w=60, "audio-seconds";q={AUDIO_S};w=3600'
        )
    refusal = post(limited, "192.0.2.1", audio_s=1)
    assert limited_by(refusal) == f"More than {REQUESTS} requests in a minute; try again later."
    assert 1 <= int(refusal.headers["retry-after"]) <= 120
    assert limited_by(post(limited, "192.0.2.1", path="/detect-language"))
    for path in ("/health", "/ready", "/queue", "/v1/models", "/docs", "/openapi.json"):
        free = limited.get(path)
        assert free.status_code == 200
        assert "ratelimit-limit" not in free.headers
    served = post(limited, "192.0.2.2", audio_s=1)  # somebody else
    assert served.status_code == 200
    assert remaining(served) == REQUESTS - 1


def test_a_refused_upload_is_not_waited_for(limited: Server) -> None:
    for _ in range(REQUESTS):
        post(limited, "192.0.2.3")
    address = urlsplit(limited.url)
    with closing(socket.socket()) as connection:
        connection.bind((PROXY, 0))
        connection.connect((address.hostname, address.port))
        connection.settimeout(30)
        connection.sendall(
            b"POST /asr HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.3\r\n"
            b"Content-Length: 900000000\r\nContent-Type: multipart/form-data; boundary=x\r\n\r\n"
        )
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 429")
    eventually(lambda: limited.get("/queue").json() == {"requests": []})


def test_a_request_without_a_place_is_not_counted(tmp_path: Path) -> None:
    """A load balancer sends it to another replica, which counts it."""
    settings = {"MAX_QUEUE_SIZE": 1, "RATE_LIMIT_REQUESTS_PER_MINUTE": REQUESTS}
    with running_server(tmp_path, PRELOAD_MODEL="", **settings) as server:
        with closing(connect(server)) as holding:
            holding.sendall(request_head(1000))
            eventually(lambda: server.get("/queue").json()["requests"] != [])
            for _ in range(REQUESTS + 1):
                assert server.post(b"").status_code == 503
        eventually(lambda: server.get("/queue").json() == {"requests": []})
        counts = [remaining(server.post(b"", model="none")) for _ in range(REQUESTS - 1)]
        assert counts == [3, 2, 1, 0]
        assert limited_by(server.post(b""))
        eventually(lambda: server.get("/queue").json() == {"requests": []})


# -- audio ---------------------------------------------------------------------------------------


def test_minutes_of_audio_in_an_hour(limited: Server) -> None:
    first = post(limited, "192.0.2.10", audio_s=AUDIO_S - 2)
    assert first.status_code == 200
    assert first.headers["ratelimit-limit"] == str(AUDIO_S)  # the nearer one
    assert remaining(first) == 2
    too_much = post(limited, "192.0.2.10", audio_s=2.1)
    assert limited_by(too_much) == (
        "Of 0.1 minutes of audio in an hour, 0.0 are left; try again later."
    )
    assert 1 <= int(too_much.headers["retry-after"]) <= 7200
    assert remaining(too_much) == 2  # what was refused is not charged
    far_too_much = post(limited, "192.0.2.10", audio_s=60)  # read only as far as the limit goes
    assert limited_by(far_too_much) == limited_by(too_much)
    assert int(far_too_much.headers["retry-after"]) > int(too_much.headers["retry-after"])
    rest = post(limited, "192.0.2.10", audio_s=1.9)
    assert rest.status_code == 200
    assert remaining(rest) == 0
    before_the_upload = post(limited, "192.0.2.10")
    assert "minutes of audio" in limited_by(before_the_upload)
    assert post(limited, "192.0.2.11", audio_s=1).status_code == 200


def test_a_recording_that_is_longer_than_the_hour_allows(limited: Server) -> None:
    response = post(limited, "192.0.2.12", audio_s=AUDIO_S + 0.1)
    assert response.status_code == 413  # to come back later is of no use
    assert "0.1 minutes of audio" in response.json()["detail"]
    assert "retry-after" not in response.headers
    assert post(limited, "192.0.2.12", audio_s=1).status_code == 200


def test_detecting_a_language_charges_what_is_decoded_once(limited: Server) -> None:
    response = post(limited, "192.0.2.13", audio_s=3, path="/detect-language")
    assert response.status_code == 200
    assert remaining(response) == AUDIO_S - 3


# -- who is asking -------------------------------------------------------------------------------


def test_an_address_that_nobody_vouches_for_does_not_count(limited: Server) -> None:
    """The header of a client that is no proxy, and what a client of the proxy put into it."""
    for sent_from, heads in (
        ("127.0.0.77", ("", "198.51.100.1", "198.51.100.2, 10.1.1.1", "127.0.0.5")),
        (PROXY, ("192.0.2.20", "198.51.100.1, 192.0.2.20", "1.1.1.1,192.0.2.20, 10.9.9.9")),
    ):
        counts = [remaining(post(limited, head, sent_from=sent_from)) for head in heads]
        assert counts == [REQUESTS - 1 - i for i in range(len(heads))]
    for address in ("127.0.0.77", "192.0.2.20"):
        eventually(lambda shown=f"address={address} ": shown in limited.log())
    assert "198.51.100.1" not in limited.log()


def test_a_proxy_on_the_same_machine_is_trusted_by_default(server: Server) -> None:
    heads = {"X-Forwarded-For": "198.51.100.200, 198.51.100.201"}
    assert httpx.get(f"{server.url}/v1/models", headers=heads).status_code == 200
    eventually(lambda: "address=198.51.100.201 " in server.log())
    assert "198.51.100.200" not in server.log()


def test_a_network_of_ipv6_is_one_client(limited: Server) -> None:
    counts = [
        remaining(post(limited, address))
        for address in ("2001:db8::1", "2001:db8::ffff:1", "[2001:db8::2]:4711", "2001:db8:0:1::1")
    ]
    assert counts == [4, 3, 2, 4]
    same = [remaining(post(limited, address)) for address in ("192.0.2.30", "::ffff:192.0.2.30")]
    assert same == [4, 3]


@pytest.mark.parametrize("head", ["unknown", "x" * 5000, "\u00e4".encode(), "127.0.0.5", ", ,"])
def test_nonsense_from_the_proxy_is_counted_as_well(limited: Server, head: str) -> None:
    assert remaining(post(limited, head)) < REQUESTS


# -- Redis ---------------------------------------------------------------------------------------


def ask(storage_url: str, *clients: str) -> list[int]:
    """What another replica says is left to these clients, each of which it lets in."""

    replica = RateLimits(REQUESTS, 0, storage_url)
    left = []
    for client in clients:
        account = replica.account(client)
        account.admit()
        left.append(int(rate_limit_headers(account.usage)["RateLimit-Remaining"]))
    return left


def test_replicas_share_their_limits(limited: Server, store: RedisServer) -> None:
    assert remaining(post(limited, "192.0.2.40")) == 4
    assert ask(store.url, "address 192.0.2.40", "address 192.0.2.41") == [3, 4]
    assert remaining(post(limited, "192.0.2.40")) == 2
    assert ask("", "address 192.0.2.40") == [4]  # without Redis each counts for itself
    entries = store.entries()
    assert entries
    assert all(entry.startswith(b"whisperx-asr:") for entry in entries)


def test_redis_may_freeze_die_and_come_back(
    limited: Server, store: RedisServer, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setattr(rate_limits, "STORAGE_RETRY_S", 0)
    caplog.set_level(logging.WARNING)

    replica = RateLimits(REQUESTS, 0, store.url)
    left = []

    def admit(times: int) -> None:
        for _ in range(times):
            account = replica.account("address 192.0.2.50")
            account.admit()
            left.append(int(rate_limit_headers(account.usage)["RateLimit-Remaining"]))

    admit(2)
    store.freeze()
    admit(2)
    store.kill()
    admit(1)
    store.start()
    admit(3)
    assert left == [4, 3, *(4, 3), 2, *(4, 3, 2)]
    away, back = [record.getMessage() for record in caplog.records]
    assert away.startswith("RATE_LIMIT_STORAGE_URL does not answer")
    assert back == "RATE_LIMIT_STORAGE_URL answers again."
    # the server's connections are from before
    assert remaining(post(limited, "192.0.2.51")) == 4
    store.freeze()
    assert remaining(post(limited, "192.0.2.51")) == 4  # the service's own count
    store.kill()
    for left in (3, 2, 1, 0):
        assert remaining(post(limited, "192.0.2.51")) == left
    limited_by(post(limited, "192.0.2.51"))
    assert post(limited, "192.0.2.52", audio_s=1).status_code == 200
    eventually(lambda: "does not answer" in limited.log())
    assert limited.log().count("does not answer") == 1
    assert "Traceback" not in limited.log()
