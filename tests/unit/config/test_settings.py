"""Settings: names, values, messages."""

from __future__ import annotations

import inspect
import os
import re
import socket
import threading
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path

import pytest
import torch

from app.config.example import write_example
from app.config.fields import A_DAY_S, A_YEAR_S
from app.config.markdown import write_markdown
from app.config.replaced import REPLACED, replaced_variables
from app.config.settings import GROUPS, Settings, load_settings, variable_names
from app.domain.errors import ConfigurationError
from app.engine.work import Work
from app.models.devices import choose_devices
from tests.support.paths import ROOT
from tests.support.server import ended_start

ORATOR = """\
# AWS Configuration
AWS_ACCESS_KEY_ID=your_access_key
AWS_SECRET_ACCESS_KEY=your_secret_key
AWS_REGION=ap-southeast-1
AWS_S3_BUCKET=amzn-s3-oratorai
AWS_SQS_ASR_QUEUE_URL=https://sqs.ap-southeast-1.amazonaws.com/.../oratorai-asr-queue

# Node API Configuration
NODE_API_URL=http://localhost:8080
WEBHOOK_SECRET=your_webhook_secret

# ASR Configuration
ASR_ENGINE=whisper
WHISPER_MODEL=base  # Options: tiny, base, small, medium, large
WHISPER_LANGUAGE=vi # Vietnamese
WHISPER_DEVICE=cuda # Use 'cuda' for GPU (17x faster), 'cpu' for CPU
WHISPER_COMPUTE_TYPE=float16 # Use 'float16' for GPU, 'int8' for CPU

# Diarization Configuration
DIARIZATION_ENABLED=true
HUGGINGFACE_TOKEN=your_hf_token_here  # Get from https://huggingface.co/settings/tokens
MIN_SPEAKERS=1
MAX_SPEAKERS=5

# Worker Configuration
POLL_INTERVAL=5  # seconds
MAX_WORKERS=3
LOG_LEVEL=INFO
"""


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for field in Settings.model_fields:
        for name in variable_names(field):
            monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("field", "first", "second", "value", "other"),
    [
        ("asr_model", "ASR_MODEL", "PRELOAD_MODEL", "tiny", "base"),
        ("device", "ASR_DEVICE", "DEVICE", "cpu", "cuda"),
        ("compute_type", "ASR_QUANTIZATION", "COMPUTE_TYPE", "int8", "float32"),
        (
            "diarization_threshold",
            "DIARIZATION_CLUSTERING_THRESHOLD",
            "DIARIZE_CLUSTERING_THRESHOLD",
            "0.5",
            "0.7",
        ),
        (
            "diarization_min_duration_off",
            "DIARIZATION_MIN_DURATION_OFF",
            "DIARIZE_MIN_DURATION_OFF",
            "0.5",
            "0.7",
        ),
        (
            "assign_nearest_speaker",
            "ASSIGN_NEAREST_SPEAKER",
            "DIARIZE_FILL_NEAREST",
            "True",
            "False",
        ),
        ("cache_dir", "ASR_MODEL_PATH", "CACHE_DIR", "/models", "/cache"),
        ("model_idle_timeout_s", "MODEL_IDLE_TIMEOUT", "MODEL_KEEP_ALIVE_SECONDS", "5", "7"),
    ],
)
def test_both_families_of_names(
    monkeypatch: pytest.MonkeyPatch, field: str, first: str, second: str, value: str, other: str
) -> None:
    monkeypatch.setenv(second, other)
    assert str(getattr(load_settings(), field)) in (other, f"{other}.0")
    monkeypatch.setenv(first, "")  # empty is the same as unset
    assert str(getattr(load_settings(), field)) in (other, f"{other}.0")
    monkeypatch.setenv(first, value)
    assert str(getattr(load_settings(), field)) in (value, f"{value}.0")


def test_the_preloaded_model_is_the_default_model(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().asr_model == "large-v3"
    assert load_settings().preload_model == ""
    monkeypatch.setenv("PRELOAD_MODEL", "small")
    assert (load_settings().asr_model, load_settings().preload_model) == ("small", "small")
    monkeypatch.setenv("ASR_MODEL", "tiny")
    assert (load_settings().asr_model, load_settings().preload_model) == ("tiny", "small")


def test_the_model_behind_whisper_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_WHISPER1_MODEL", "small")
    assert load_settings().models_of_openai_names() == {"whisper-1": "small"}
    monkeypatch.setenv("OPENAI_MODELS", '{"whisper-1": "base"}')
    assert load_settings().models_of_openai_names() == {"whisper-1": "base"}


def test_a_language_of_any_standard(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().default_language is None
    for written, code in (("pt-BR", "pt"), ("German", "de"), ("auto", None), ("", None)):
        monkeypatch.setenv("DEFAULT_LANGUAGE", written)
        assert load_settings().default_language == code
    monkeypatch.setenv("ALIGN_MODELS", '{"nb": "someone/norwegian", "cy": "someone/welsh"}')
    assert load_settings().align_models == {"no": "someone/norwegian", "cy": "someone/welsh"}


def test_variables_of_replaced_services_are_understood_or_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in REPLACED:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ASR_ENGINE", "whisperx")
    monkeypatch.setenv("SERVE_MODE", "")
    assert list(replaced_variables()) == []
    monkeypatch.setenv("GPU_CONCURRENCY", "2")
    [sentence] = replaced_variables()
    assert sentence.startswith("GPU_CONCURRENCY ")
    for advised in re.findall(
        r"set ([A-Z_]+)", " ".join(advice for _, advice in REPLACED.values())
    ):
        assert any(advised in variable_names(field) for field in Settings.model_fields)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("DEVICE", "tpu", "'cpu' or 'cuda'"),
        ("DEFAULT_LANGUAGE", "klingon", "'klingon' is not known"),
        ("PORT", "99999", "65535"),
        ("BATCH_SIZE", "0", "greater than or equal to 1"),
        ("CHUNK_SECONDS", "45", "less than or equal to 30"),
        ("MAX_DURATION_SECONDS", "long", "valid number"),
        ("COMPUTE_TYPE", "float4", "float16"),
        ("DIARIZATION_PARAMS", "{broken", "JSON"),
        ("ALIGN_MODELS", "[1]", "dictionary"),
        ("ALIGN_MODELS", '{"klingon": "someone/klingon"}', "'klingon' is not known"),
        ("SUBTITLE_HIGHLIGHT_WORDS", "perhaps", "boolean"),
        ("RATE_LIMIT_REQUESTS_PER_MINUTE", "-1", "greater than or equal to 0"),
        ("RATE_LIMIT_AUDIO_MINUTES_PER_HOUR", "nan", "finite"),
        ("REQUEST_TIMEOUT_SECONDS", "1e10", "less than or equal to 31536000"),
        ("CONNECTION_TIMEOUT_SECONDS", "100000", "less than or equal to 86400"),
        ("EGRESS_ALLOWED_NETWORKS", "10.0.0.1/8", "10.0.0.1/8 is not a network"),
        ("WEBHOOK_RETRY_DELAYS", "5, soon", "soon is not a number of seconds"),
    ],
)
def test_a_bad_value_is_one_clear_line(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, expected: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as failure:
        load_settings()
    message = str(failure.value)
    assert name in message
    assert expected in message
    assert "\n" not in message


NUMBERS = [
    name for name, info in Settings.model_fields.items() if info.annotation in (float, float | None)
]


@pytest.mark.parametrize("field", NUMBERS)
def test_every_number_is_one(monkeypatch: pytest.MonkeyPatch, field: str) -> None:
    name = variable_names(field)[0]
    for value in ("inf", "nan"):
        monkeypatch.setenv(name, value)
        with pytest.raises(ConfigurationError, match=rf"^{name}.*finite number"):
            load_settings()


def test_the_longest_times_can_be_waited_for() -> None:
    longest = load_settings({"request_timeout_s": A_YEAR_S, "connection_timeout_s": A_DAY_S})
    done: Future[str] = Future()
    threading.Timer(0.05, done.set_result, ["done"]).start()
    assert Work("patient", longest.request_timeout_s).wait(done) == "done"
    with closing(socket.socket()) as sock:
        milliseconds = round(longest.connection_timeout_s * 1000)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)


def test_a_token_shows_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("PORT", "no")
    with pytest.raises(ConfigurationError) as failure:
        load_settings()
    assert "hf_secret" not in str(failure.value)
    monkeypatch.setenv("PORT", "1")
    assert "hf_secret" not in repr(load_settings())
    assert load_settings().hf_token.get_secret_value() == "hf_secret"


def test_dotenv_is_read_and_the_environment_wins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("PORT=1234\nBATCH_SIZE=3\nHF_TOKEN=\n")
    monkeypatch.setenv("BATCH_SIZE", "5")
    settings = load_settings()
    assert (settings.port, settings.batch_size) == (1234, 5)
    for name in ("PORT", "HF_TOKEN"):  # monkeypatch would bring them back
        os.environ.pop(name, None)


def test_the_environment_of_orators_worker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As its documentation shows it."""
    (tmp_path / ".env").write_text(ORATOR)
    variables = [line.partition("=")[0] for line in ORATOR.splitlines() if "=" in line]
    try:
        settings = load_settings()
        assert list(replaced_variables()) == []
    finally:
        for name in variables:  # monkeypatch would bring them back
            os.environ.pop(name, None)
    expected = {
        "aws_region": "ap-southeast-1",
        "s3_allowed_buckets": ("amzn-s3-oratorai",),
        "sqs_queue_url": "https://sqs.ap-southeast-1.amazonaws.com/.../oratorai-asr-queue",
        "sqs_region": "ap-southeast-1",
        "receiver_webhook": "http://localhost:8080/api/v1/webhooks/asr-complete",
        "asr_model": "base",
        "default_language": "vi",
        "device": "cuda",
        "compute_type": "float16",
        "sqs_diarize": True,
        "sqs_min_speakers": 1,
        "sqs_max_speakers": 5,
        "sqs_poll_interval_s": 5,
        "job_workers": 3,
        "log_level": "info",
    }
    assert {name: getattr(settings, name) for name in expected} == expected
    secrets = {
        "aws_access_key_id": "your_access_key",
        "aws_secret_access_key": "your_secret_key",
        "webhook_secret": "your_webhook_secret",
        "hf_token": "your_hf_token_here",
    }
    for name, value in secrets.items():
        assert getattr(settings, name).get_secret_value() == value


def test_diarization_parameters_are_merged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIARIZATION_CLUSTERING_THRESHOLD", "0.7")
    monkeypatch.setenv("DIARIZATION_MIN_DURATION_OFF", "0.2")
    monkeypatch.setenv("DIARIZE_PARAM_OVERRIDES", '{"clustering": {"Fa": 0.1, "threshold": 0.1}}')
    assert load_settings().diarizer_params() == {
        "clustering": {"Fa": 0.1, "threshold": 0.7},
        "segmentation": {"min_duration_off": 0.2},
    }


def test_the_example_lists_every_setting() -> None:
    example = (ROOT / ".env.example").read_text()
    assert example == write_example(), "it is stale: whisperx-asr settings > .env.example"
    for field in Settings.model_fields:
        name, *others = variable_names(field)
        assert f"\n#{name}=" in example
        assert not others or f"also {', '.join(others)})" in example


def test_the_documentation_lists_every_setting() -> None:
    page = (ROOT / "docs" / "settings.md").read_text()
    assert page == write_markdown(), (
        "it is stale: whisperx-asr settings --markdown > docs/settings.md"
    )
    for field in Settings.model_fields:
        assert f"\n| {' or '.join(f'`{name}`' for name in variable_names(field))} | " in page


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("HUB_TIMEOUT_SECONDS", "`10` | seconds, 0.1 to 86400"),
        ("MAX_LOADED_MODELS", "`8` | at least 1"),
        ("VAD_ONSET", "`0.5` | above 0, below 1"),
        ("UPLOAD_MIN_BYTES_PER_SECOND", "`1000` | bytes per second, at least 0"),
        ("KNOWN_SPEAKER_SIMILARITY", "`0.5` | -1 to 1"),
        ("ALIGN_DEVICE", " | cpu or cuda"),
        ("WORD_ALIGNER", "`auto` | auto, wav2vec2 or whisper"),
        ("STRICT_STAGES", "`false` | true or false"),
        ("TEMP_DIR", "`/tmp/whisperx-asr` | path"),
        ("API_KEYS", " | secret"),
        ("CORS_ORIGINS", " | comma-separated"),
        ("OPENAI_MODELS", " | JSON"),
    ],
)
def test_the_documentation_shows_defaults_and_values(name: str, shown: str) -> None:
    assert f"\n| `{name}` | {shown} | " in write_markdown()


def test_each_setting_belongs_to_one_group() -> None:
    fields = [field for group in GROUPS for field in group.model_fields]
    assert sorted(fields) == sorted(Settings.model_fields)
    assert len(set(fields)) == len(fields)
    for info in Settings.model_fields.values():
        assert info.description
        assert info.description.endswith(".")
    for group in GROUPS:
        assert group.title
        assert group.__doc__


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"device": "cuda"}, "DEVICE=cuda"),
        ({"diarize_device": "cuda"}, "DIARIZE_DEVICE=cuda"),
        ({"align_device": "cuda"}, "ALIGN_DEVICE=cuda"),
        ({"device": "cpu", "compute_type": "float16"}, "COMPUTE_TYPE=float16"),
    ],
)
def test_devices_that_are_not_there(settings: dict[str, str], expected: str) -> None:
    if "cuda" in settings.values() and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ConfigurationError, match=expected):
        choose_devices(load_settings(settings))


def test_the_device_is_chosen() -> None:
    chosen = choose_devices(load_settings({"diarize_device": "cpu"}))
    expected = ("cuda:0", "float16") if torch.cuda.is_available() else ("cpu", "int8")
    assert (chosen.device, chosen.compute_type) == expected
    assert chosen.align == chosen.device
    assert chosen.diarize == "cpu"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"PORT": "none"}, "PORT"),
        ({"CACHE_DIR": "/proc/nowhere"}, "chown"),
        ({"TEMP_DIR": "/proc/nowhere"}, "TEMP_DIR"),
        ({"ASR_MODEL": "huge-v9"}, "huge-v9"),
        ({"API_KEYS_FILE": "/nowhere/keys"}, "API_KEYS_FILE: /nowhere/keys cannot be read"),
    ],
)
def test_settings_that_cannot_work_end_the_start(
    tmp_path: Path, settings: dict[str, str], expected: str
) -> None:
    fresh = "ASR_MODEL" in settings  # once with all that libraries may say when imported
    done = ended_start(tmp_path, timeout_s=120, fresh=fresh, **settings)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith("whisperx-asr: ")
    assert expected in line


def test_no_group_replaces_a_method_of_another() -> None:
    """`Settings` inherits all of them: of two validators with one name, only one would run."""
    own = [name for group in GROUPS for name, value in vars(group).items() if is_method(value)]
    names = [name for name in own if not name.startswith("__")]
    assert "_networks" in names
    assert sorted(set(names)) == sorted(names)


def is_method(value: object) -> bool:
    return inspect.isfunction(getattr(value, "__func__", value))
