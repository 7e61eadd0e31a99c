"""Models that are fetched: from hubs that refuse, hang, drip or say no, and that work again."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from app.config.environment import prepare_environment
from app.config.settings import Settings
from app.domain.errors import ClientGone, ModelUnavailable
from app.engine.failures import MAX_INTERVAL_S, MIN_INTERVAL_S
from app.engine.model import ModelKey, ModelKind
from app.engine.recovery import NO_RECOVERY
from app.engine.store import LoadWaits, ModelStore
from app.engine.work import Work
from app.models.loader import ModelLoader
from app.observability.gauges import Reading
from app.observability.metrics import Metrics
from app.service.readings import service_facts
from tests.support.hub import Hub as FakeHub
from tests.support.hub import fill
from tests.support.malice import mirror
from tests.support.paths import DEMO
from tests.support.ports import free_port
from tests.support.waiting import eventually

SETTINGS = Settings(_env_file=None)  # type: ignore[call-arg]
prepare_environment(SETTINGS)

from huggingface_hub import constants, file_download  # noqa: E402

from app.models.builders import ModelBuilders  # noqa: E402
from app.models.devices import choose_devices  # noqa: E402
from app.models.fetcher import ModelFetcher  # noqa: E402
from app.models.hub import Hub  # noqa: E402
from app.models.recognizers.registry import Recognizers  # noqa: E402

TIMEOUT_S = 1.0
SLACK_S = 15.0  # of a machine that does other things too: how often the hub is asked counts

RECOGNIZER = ModelKey(ModelKind.RECOGNIZER, "owner/whisper", "owner/whisper")
ALIGNER = ModelKey(ModelKind.ALIGNER, "es", "owner/align", "es")
DIARIZER = ModelKey(ModelKind.DIARIZER, "owner/diarization", "owner/diarization")
TORCHAUDIO = ModelKey(ModelKind.ALIGNER, "en", "", "en")
HUB_KEYS = [RECOGNIZER, ALIGNER, DIARIZER]
ALL_KEYS = [*HUB_KEYS, TORCHAUDIO]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    """Not open yet: it refuses connections."""
    hub = fill(FakeHub(free_port()), tmp_path / "hub")
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    template = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(file_download, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return hub


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Shop:
    """A store with the loader of the service and a cache of its own."""

    def __init__(self, hub: FakeHub, cache_dir: Path) -> None:
        settings = SETTINGS.model_copy(update={"cache_dir": cache_dir, "batch_size": 2})
        chosen = choose_devices(settings)
        nothing = Reading(True, 0, 0, 0.0, (), ())
        metrics = Metrics(
            service_facts(settings, chosen.device, chosen.compute_type), lambda: nothing
        )
        self.fetcher = ModelFetcher(Hub(TIMEOUT_S), cache_dir, None, f"{hub.url}/torchaudio")
        self.clock = Clock()
        self.store = ModelStore(
            ModelLoader(
                self.fetcher,
                ModelBuilders(settings, chosen, Recognizers()),
                NO_RECOVERY,
                metrics,
            ),
            max_models=8,
            waits=LoadWaits(retry_s=TIMEOUT_S),
            clock=self.clock,
        )

    def use(self, key: ModelKey, **options: Any) -> Any:
        with self.store.lease(key, **options) as model:
            return model

    def failure(self, key: ModelKey, **options: Any) -> tuple[ModelUnavailable, float]:
        """How it fails, and in how many seconds."""
        started = time.monotonic()
        with pytest.raises(ModelUnavailable) as caught:
            self.use(key, **options)
        return caught.value, time.monotonic() - started


@pytest.fixture
def shop(hub: FakeHub, tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(hub, tmp_path / "cache")
    yield shop
    shop.store.close()


# -- one attempt ---------------------------------------------------------------------------------

FAILURES: dict[str | int, tuple[str, float]] = {  # what is said, and after how long at most
    "refuse": ("cannot be reached", SLACK_S),
    "hang": ("does not answer", TIMEOUT_S + SLACK_S),
    "drip": ("does not answer", TIMEOUT_S + SLACK_S),
    "drip body": ("stopped sending, or sends too slowly", TIMEOUT_S + SLACK_S),
    401: ("HF_TOKEN", SLACK_S),
    403: ("licence", SLACK_S),
    404: ("no such model", SLACK_S),
    500: ("answered 500", SLACK_S),
    503: ("answered 503", SLACK_S),
}


@pytest.mark.parametrize("mode", FAILURES, ids=str)
def test_a_hub_that_fails(
    hub: FakeHub, shop: Shop, caplog: pytest.LogCaptureFixture, mode: str | int
) -> None:
    """Each kind of model: one clear answer in short time, one line, one name in `missing`."""
    said, within_s = FAILURES[mode]
    hub.mode = mode
    with nullcontext() if mode == "refuse" else hub:
        for key in ALL_KEYS:
            hub.requests.clear()
            caplog.clear()
            error, seconds = shop.failure(key)
            assert said in error.message
            assert f"{key.kind} {key.short_name} is missing" in error.message
            assert hub.url.removeprefix("http://") not in error.message
            assert seconds < within_s
            assert error.retry_after_s == MIN_INTERVAL_S
            assert sum(hub.requests.values()) <= 2, "it was tried again"
            [line] = [r for r in caplog.records if r.levelno >= logging.WARNING]
            assert line.levelno == logging.ERROR
            assert line.exc_info is None
            assert "\n" not in line.getMessage()
            assert said in line.getMessage()
            assert hub.url.removeprefix("http://") in line.getMessage()
            # the next one is not even asked for
            hub.requests.clear()
            again, seconds = shop.failure(key)
            assert again.message == error.message
            assert seconds < SLACK_S
            assert not hub.requests
        assert [s.partition(" is ")[0] for s in shop.store.missing()] == [
            f"The {key.kind} {key.short_name}" for key in ALL_KEYS
        ]


@pytest.mark.parametrize("mode", ["stall", "break"])
def test_a_download_that_breaks_off_is_taken_up_again(hub: FakeHub, shop: Shop, mode: str) -> None:
    with hub:
        for key in HUB_KEYS:
            hub.mode = mode
            _, seconds = shop.failure(key)
            assert seconds < TIMEOUT_S + SLACK_S
            hub.mode = "serve"
            assert shop.use(key, try_at_once=True).alive
        hub.mode = mode
        shop.failure(TORCHAUDIO)
    folder = shop.fetcher._cache_dir
    eventually(lambda: not [path for path in folder.iterdir() if "partial" in path.name])


def test_a_slow_download_that_goes_on_is_waited_for(hub: FakeHub, shop: Shop) -> None:
    hub.mode = "slow"
    with hub:
        started = time.monotonic()
        assert shop.use(ALIGNER).alive
        assert time.monotonic() - started > 3 * TIMEOUT_S


def test_another_process_that_downloads_the_same_is_waited_for(
    hub: FakeHub, shop: Shop, tmp_path: Path
) -> None:
    """As replicas do that share a cache: it has the lock, and the file grows."""
    etag = hashlib.sha256((DEMO / "align" / "model.safetensors").read_bytes()).hexdigest()
    lock = tmp_path / "cache" / ".locks" / "models--owner--align" / f"{etag}.lock"
    partial = tmp_path / "cache" / "models--owner--align" / "blobs" / "of-another.incomplete"
    for path in (lock, partial):
        path.parent.mkdir(parents=True)
    with hub, ThreadPoolExecutor(1) as pool:
        with FileLock(lock), partial.open("wb") as file:
            attempt = pool.submit(shop.use, ALIGNER)
            for _ in range(int(3 * TIMEOUT_S / 0.1)):
                file.write(bytes(10_000))
                file.flush()
                time.sleep(0.1)
            assert not attempt.done()
        assert attempt.result(60).alive


@pytest.mark.parametrize("key", HUB_KEYS, ids=lambda key: key.kind)
def test_what_is_in_the_cache_asks_no_hub(hub: FakeHub, shop: Shop, key: ModelKey) -> None:
    with hub:
        assert shop.use(key).alive
        assert hub.requests
        hub.requests.clear()
        hub.mode = "hang"
        shop.store.evict_idle()
        started = time.monotonic()
        assert shop.use(key).alive
        assert time.monotonic() - started < 10 * TIMEOUT_S + SLACK_S
        assert not hub.requests
        # a refresh does
        hub.mode = "serve"
        shop.fetcher.fetch(key, refresh=True)
        assert hub.requests


def test_libraries_reach_no_hub_by_themselves(hub: FakeHub, shop: Shop) -> None:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    with hub:
        with pytest.raises(LocalEntryNotFoundError):
            hf_hub_download("owner/align", "config.json", cache_dir=shop.fetcher._cache_dir)
        assert not hub.requests


def test_a_model_without_a_tokenizer_takes_whispers(
    hub: FakeHub, shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """faster-whisper would ask the hub for it at each load."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "home"))
    whisper = mirror(DEMO / "whisper", tmp_path / "whisper")
    tokenizer = tmp_path / "openai" / "tokenizer.json"
    tokenizer.parent.mkdir()
    (whisper / "tokenizer.json").rename(tokenizer)
    hub.repositories |= {
        "openai/whisper-tiny": tokenizer.parent,
        "openai/whisper-tiny.en": tokenizer.parent,
    }
    local = ModelKey(ModelKind.RECOGNIZER, "ours", str(whisper))
    hub.mode = "hang"
    with hub:
        error, seconds = shop.failure(local)
        assert "does not answer" in error.message
        assert seconds < 3 * TIMEOUT_S + SLACK_S


def test_a_hub_that_drips_holds_nobody(hub: FakeHub, shop: Shop) -> None:
    """Who hangs up, or has waited enough, goes; the download goes on for the next one."""
    shop.store._waits = LoadWaits(load_s=2 * TIMEOUT_S)

    work = Work("a", 600)

    def wait() -> None:
        with shop.store.lease(ALIGNER, work.wait_tracked):
            pass

    hub.mode = "slow"
    with hub, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(wait)
        eventually(lambda: bool(hub.requests))
        work.cancel(ClientGone())
        with pytest.raises(ClientGone):
            waiting.result(SLACK_S)
        assert ALIGNER not in shop.store.loaded()
        error, seconds = shop.failure(ALIGNER)
        assert "still being loaded" in error.message
        assert seconds < 2 * TIMEOUT_S + SLACK_S
        eventually(lambda: ALIGNER in shop.store.loaded())
        assert shop.use(ALIGNER).alive
        assert hub.requests["GET /api/models/owner/align"] == 1


# -- many attempts -------------------------------------------------------------------------------


def test_intervals_grow_and_a_success_forgets(hub: FakeHub, shop: Shop) -> None:
    waits = []
    for _ in range(8):
        error, _ = shop.failure(RECOGNIZER)
        assert error.retry_after_s is not None
        waits.append(error.retry_after_s)
        shop.clock.now += error.retry_after_s - 1
        early, _ = shop.failure(RECOGNIZER)
        assert early.retry_after_s == 1
        shop.clock.now += 1
    assert waits == [30, 60, 120, 240, 480, 900, 900, MAX_INTERVAL_S]
    assert shop.store.missing()[0].endswith("The next request tries again.")
    with hub:
        assert shop.use(RECOGNIZER).alive
    assert shop.store.missing() == []


def test_all_who_wait_share_one_attempt(hub: FakeHub, shop: Shop) -> None:
    hub.mode = "hang"
    with hub, ThreadPoolExecutor(8) as pool:
        started = time.monotonic()
        errors = list(pool.map(lambda _: shop.failure(ALIGNER)[0].message, range(8)))
        assert time.monotonic() - started < TIMEOUT_S + SLACK_S
        assert len(set(errors)) == 1
        assert sum(hub.requests.values()) == 1
        # and the next attempt, too
        shop.clock.now += MIN_INTERVAL_S
        hub.requests.clear()
        hub.mode = "serve"
        models = list(pool.map(lambda _: shop.use(ALIGNER), range(8)))
        assert len({id(model) for model in models}) == 1
        assert hub.requests["GET /api/models/owner/align"] == 1


def test_nobody_waits_long_for_another_try_of_what_can_be_done_without(
    hub: FakeHub, shop: Shop
) -> None:
    """The download goes on beside, and is there for those who come later."""
    shop.failure(ALIGNER)
    shop.clock.now += MIN_INTERVAL_S
    hub.mode = "slow"
    with hub:
        error, seconds = shop.failure(ALIGNER)
        assert "still being loaded" in error.message
        assert TIMEOUT_S - 0.1 < seconds < TIMEOUT_S + SLACK_S
        _, seconds = shop.failure(ALIGNER)
        assert seconds < SLACK_S
        eventually(lambda: ALIGNER in shop.store.loaded())
        assert shop.use(ALIGNER).alive
        assert hub.requests["GET /api/models/owner/align"] == 1


def test_what_is_broken_here_is_tried_again_at_once(
    hub: FakeHub, shop: Shop, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It may be mended any moment. It is logged once, until it is old or something else."""
    aligner = mirror(DEMO / "align", tmp_path / "align")
    (aligner / "config.json").rename(tmp_path / "config.json")
    local = ModelKey(ModelKind.ALIGNER, "es", str(aligner), "es")
    for _ in range(3):
        error, _ = shop.failure(local)
        assert str(tmp_path) not in error.message
        assert "files are broken" in error.message
    [line] = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert line.exc_info is None
    assert "\n" not in line.getMessage()
    assert shop.store.missing() == [f"{error.message} The next request tries again."]
    (tmp_path / "config.json").rename(aligner / "config.json")
    assert shop.use(local).alive
    assert shop.store.missing() == []


def test_offline_is_no_hubs_fault(
    hub: FakeHub, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is asked and nothing remembered: files may be copied into the cache any moment."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with hub:
        for key in ALL_KEYS:
            error, seconds = shop.failure(key)
            assert "HF_HUB_OFFLINE" in error.message
            assert seconds < 1
        assert not hub.requests
        monkeypatch.delenv("HF_HUB_OFFLINE")
        shop.fetcher.fetch(ALIGNER)
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        assert shop.use(ALIGNER).alive
