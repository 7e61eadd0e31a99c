"""Models that are loaded at the same time, as the first requests of a fresh service have it."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from app.config.environment import prepare_environment
from app.config.settings import DEMO_DIR, Settings
from app.engine.model import ModelKey, ModelKind
from app.engine.recovery import NO_RECOVERY
from app.models.loader import ModelLoader
from app.observability.gauges import Reading
from app.observability.metrics import Metrics
from app.service.readings import service_facts

SETTINGS = Settings(_env_file=None)  # type: ignore[call-arg]
prepare_environment(SETTINGS)

from app.models.builders import ModelBuilders  # noqa: E402
from app.models.devices import choose_devices  # noqa: E402
from app.models.fetcher import ModelFetcher  # noqa: E402
from app.models.hub import Hub  # noqa: E402
from app.models.recognizers.registry import Recognizers  # noqa: E402

ROUNDS = 3
DIARIZER = ModelKey(ModelKind.DIARIZER, "demo", str(DEMO_DIR / "diarization"))
ALIGNER = ModelKey(ModelKind.ALIGNER, "demo-en", str(DEMO_DIR / "align"), "en")


def test_models_loaded_at_once_all_have_their_weights(tmp_path: Path) -> None:
    """transformers builds its models without weights, and while it does so all of PyTorch does."""
    settings = SETTINGS.model_copy(update={"cache_dir": tmp_path})
    chosen = choose_devices(settings)
    metrics = Metrics(
        service_facts(settings, chosen.device, chosen.compute_type),
        lambda: Reading(True, 0, 0, 0.0, (), ()),
    )
    fetcher = ModelFetcher(Hub(timeout_s=1), tmp_path, None, settings.torchaudio_url)
    load = ModelLoader(
        fetcher, ModelBuilders(settings, chosen, Recognizers()), NO_RECOVERY, metrics
    )
    done = threading.Event()

    def keep_loading() -> int:
        count = 0
        while not done.is_set():
            load(ALIGNER).close()
            count += 1
            time.sleep(0.01)  # else the other would hardly ever get a turn
        return count

    with ThreadPoolExecutor(1) as threads:
        aligning = threads.submit(keep_loading)
        try:
            for _ in range(ROUNDS):
                diarizer = load(DIARIZER)
                [block] = diarizer.model.split(np.ones(16_000, np.float32))
                assert np.isfinite(diarizer.submit("", [block])[0].result(60).activity).all()
                diarizer.close()
        finally:
            done.set()
        assert aligning.result() > 0
