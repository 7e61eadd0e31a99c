"""Rate limits by themselves: what cannot be set, and the arithmetic."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest
from limits import RateLimitItemPerMinute
from limits.strategies import SlidingWindowCounterRateLimiter

from app.access import counters, rate_limits
from app.access.rate_limits import RateLimits
from app.api.rate_limits import rate_limit_headers
from app.config.settings import load_settings
from app.domain.errors import ConfigurationError, RateLimited, UploadTooLarge


@pytest.mark.parametrize(
    "url",
    [
        "localhost:6379",
        "http://localhost",
        "redis://",
        "redis://:s3cret@host:port",
        "memory://",
        "redis://[::1",
    ],
)
def test_storages_that_cannot_be(url: str) -> None:
    with pytest.raises(ConfigurationError, match="RATE_LIMIT_STORAGE_URL") as failure:
        RateLimits(1, 0, url)
    assert "s3cret" not in str(failure.value)


@pytest.mark.parametrize("given", ["proxy.example.com", "10.0.0.0/33", "*, 10.0.0.1", "10.0.0"])
def test_proxies_that_cannot_be(given: str) -> None:
    with pytest.raises(ConfigurationError, match="TRUSTED_PROXIES"):
        load_settings({"TRUSTED_PROXIES": given})


def test_proxies_are_read_as_they_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().trusted_proxies == ("127.0.0.1", "::1")
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")  # the server library's own name
    assert load_settings().trusted_proxies == ("*",)
    monkeypatch.setenv("TRUSTED_PROXIES", "10.1.2.3/8, 2001:DB8::1,192.0.2.1")
    assert load_settings().trusted_proxies == ("10.0.0.0/8", "2001:db8::1", "192.0.2.1")


def test_the_time_to_come_back_is_the_first_at_which_it_fits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = SimpleNamespace(now_s=1_000_000.0)
    fake = SimpleNamespace(time=lambda: clock.now_s)
    monkeypatch.setattr(counters, "time", fake)
    chance = random.Random(7)

    def play(limit: int) -> int:
        item = RateLimitItemPerMinute(limit)
        storage = rate_limits._Storage("")
        refusals = 0
        for _ in range(300):
            cost = chance.randint(1, limit)
            if not storage.hit(item, "a", cost):
                refusals += 1
                usage = storage.usage(item, "a")
                wait_s = usage.wait_s(cost)
                assert cost > usage.remaining
                assert 1 <= wait_s <= 120
                clock.now_s += wait_s - 1.02  # it is rounded up
                before = storage.usage(item, "a")
                assert cost > before.remaining
                clock.now_s += 1.02
                assert storage.hit(item, "a", cost)
            assert storage.usage(item, "b").wait_s(limit) == 0
            clock.now_s += chance.choice([0, 0, 0.3, 5, 40])
        return refusals

    for limit in (1, 3, 60, 1000):
        assert play(limit) > 50


def test_what_never_fits_is_not_asked_back() -> None:
    def charge(*audio_s: float) -> dict[str, str]:
        account = RateLimits(0, 60).account("a")
        for seconds in audio_s:
            account.charge(seconds)
        return rate_limit_headers(account.usage)

    with pytest.raises(UploadTooLarge, match="1 minutes"):
        charge(60.1)
    assert charge(59.1)["RateLimit-Remaining"] == "0"
    assert charge(0) == {}
    with pytest.raises(RateLimited, match=r"Of 1 minutes of audio in an hour, 0\.5 are left"):
        charge(30, 30.5)


def test_what_addresses_cost_does_not_grow_with_their_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = SimpleNamespace(now_s=1_000_000.0)
    monkeypatch.setattr(counters, "time", SimpleNamespace(time=lambda: clock.now_s))
    monkeypatch.setattr(counters, "MAX_KEYS", 1000)
    storage = counters.WindowCounters()
    limiter = SlidingWindowCounterRateLimiter(storage)
    item = RateLimitItemPerMinute(2)
    swept = []
    sweep = storage._is_over
    monkeypatch.setattr(storage, "_is_over", lambda key: swept.append(key) or sweep(key))
    for number in range(3000):
        assert limiter.hit(item, f"address {number}")
    assert len(storage._windows) == 1000
    assert len(swept) <= 3000 * counters.SWEPT
    assert limiter.hit(item, "address 2999")
    assert not limiter.hit(item, "address 2999")
    clock.now_s += 180
    for number in range(600):
        assert limiter.hit(item, f"late {number}")
    assert len(storage._windows) == 600  # those of long ago are gone


def test_work_without_a_transcript_is_paid_for_in_audio() -> None:
    account = RateLimits(0, 60).account("a")
    with pytest.raises(UploadTooLarge, match="1 minutes"):
        account.exceed(60)  # all is free, and it is too long all the same
    account.spend(28.5)
    assert account.audio_left_s() == 31
    with pytest.raises(RateLimited) as refusal:
        account.exceed(31)
    assert (refusal.value.retry_after_s or 0) > 60
    account.spend(1000)
    assert account.audio_left_s() == 0
    free = RateLimits(5, 0).account("a")
    free.spend(1000)
    assert free.audio_left_s() == float("inf")


def test_what_is_gone_already_is_counted_as_far_as_it_can_be() -> None:
    """Decoding of which nothing came: it neither fails the request otherwise nor goes below 0."""
    account = RateLimits(0, 60).account("a")
    account.spend(20.5)
    account.charge(30)
    account.spend(1000)
    account.spend(1000)
    with pytest.raises(RateLimited):
        account.charge(1)
    assert rate_limit_headers(account.usage)["RateLimit-Remaining"] == "0"
