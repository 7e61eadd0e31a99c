"""Keys as they are set, and those that cannot work."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.access import keys
from app.access.guesses import Guesses
from app.domain.errors import ConfigurationError, RateLimited
from tests.support.keys import ALICE, BOB, NAMELESS, settings_of


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (",", "API_KEYS: there is no key in it"),
        ("  ", "API_KEYS: there is no key in it"),
        (f"{ALICE}, a b:{BOB}", "name of key 2"),
        (f"a\x1b[31m:{BOB}", "name of key 1"),
        (f":{BOB}", "name of key 1"),
        (f"{'n' * 65}:{BOB}", "name of key 1"),
        ("alice:", r"key 1 \(alice\) is empty"),
        (f"alice:{BOB} {ALICE}", "characters other than visible ASCII"),
        ("alice:geheimschlüssel", "characters other than visible ASCII"),
        (f"alice:{BOB},bob:{BOB}", "alice and bob have the same key"),
    ],
)
def test_keys_that_cannot_work(given: str, expected: str) -> None:
    with pytest.raises(ConfigurationError, match=expected) as failure:
        keys.read_keys(settings_of(API_KEYS=given))
    message = str(failure.value)
    assert "\n" not in message
    assert not any(part in message for part in (ALICE, BOB, "geheim", "\x1b"))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "cannot be read: No such file"),
        (b"", "there is no key in"),
        (b"# only\n  # comments\n\n,\n", "there is no key in"),
        (b"\xff\xfe\x00k", "is not a text file"),
        (b"alice:k\xc3\xa4se", "characters other than visible ASCII"),
    ],
)
def test_files_of_keys_that_cannot_work(
    tmp_path: Path, content: bytes | None, expected: str
) -> None:
    path = tmp_path / "keys"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=f"API_KEYS_FILE.* {expected}"):
        keys.read_keys(settings_of(API_KEYS=ALICE, API_KEYS_FILE=str(path)))
    with pytest.raises(ConfigurationError, match="Is a directory"):
        keys.read_keys(settings_of(API_KEYS_FILE=str(tmp_path)))


def test_names_of_keys(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_bytes(f"\ufeffteam.a:a#b  # rotated\r\n{BOB},team.a:a:b\r\n".encode())
    ring = keys.read_keys(settings_of(API_KEYS=f"{ALICE},x:{NAMELESS}", API_KEYS_FILE=str(path)))
    assert ring is not None
    for secret, name in (
        (ALICE, "key-1"), (NAMELESS, "x"), ("a#b", "team.a"), (BOB, "key-4"), ("a:b", "team.a"),
    ):  # fmt: skip
        assert ring.name_of([b"guess", secret.encode(), b""]) == name
    for secret in ("", "a", "x", "key-1", f"x:{NAMELESS}", ALICE + "\n"):
        assert ring.name_of([secret.encode()]) is None
    assert keys.read_keys(settings_of()) is None


def test_secrets_are_not_printed() -> None:
    settings = settings_of(API_KEYS=ALICE, RATE_LIMIT_STORAGE_URL="redis://:hunter2@localhost")
    shown = repr(settings) + str(settings) + str(settings.model_dump())
    assert ALICE not in shown
    assert "hunter2" not in shown
    assert ALICE not in repr(keys.ApiKey("alice", ALICE.encode()))


@pytest.mark.parametrize(
    "given", ["notes.example.com", "https://a.example/page", "https://*.a", "x"]
)
def test_origins_that_cannot_be(given: str) -> None:
    with pytest.raises(ConfigurationError, match=r"CORS_ORIGINS: .* is not an origin such as"):
        settings_of(CORS_ORIGINS=f"https://fine.example.com,{given}")


def test_a_refused_address_cannot_learn_which_guess_is_right() -> None:
    guesses = Guesses(3)
    guesses.note("a", "alice", 0)
    for _ in range(3):
        guesses.note("a", None, 1)
    for name in (None, "bob"):
        with pytest.raises(RateLimited) as refusal:
            guesses.note("a", name, int(name is None))
        assert 1 <= (refusal.value.retry_after_s or 0) <= 120
    guesses.note("a", "alice", 0)  # known there before
    guesses.note("b", "bob", 0)
    guesses.note("b", "bob", 7)  # a right key beside wrong ones hides none of them
    with pytest.raises(RateLimited):
        guesses.note("b", "bob", 7)
