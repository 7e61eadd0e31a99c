"""No file of a model runs code when it is loaded, whatever the library around it would allow."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from token import NAME
from tokenize import tokenize
from typing import Any

import pytest
import torch
import yaml

from app.config.environment import prepare_environment
from app.config.settings import DEMO_DIR, Settings
from app.domain.errors import ModelUnavailable
from tests.support.malice import as_archive, as_arrays, as_pickle, mirror, swap
from tests.support.paths import ROOT

# Before the adapters are imported: the libraries read their variables then.
prepare_environment(Settings(_env_file=None))  # type: ignore[call-arg]

import whisperx  # noqa: E402
from pyannote.audio import Model  # noqa: E402

from app.models.alignment.aligner import Wav2Vec2Aligner  # noqa: E402
from app.models.pyannote.checkpoints import allow_metadata  # noqa: E402
from app.models.pyannote.diarizer import PyannoteDiarizer  # noqa: E402
from app.models.pyannote.windows import WindowBatches  # noqa: E402
from app.models.recognizers.whisper import WhisperRecognizer  # noqa: E402

BUNDLED = Path(whisperx.__file__).parent / "assets" / "pytorch_model.bin"
FORMS = {"pickle": as_pickle, "archive": as_archive}
CHECKPOINTS = [
    "embedding", "segmentation", "plda", "aligner", "torchaudio aligner", "whisper",
]  # fmt: skip


def plant(kind: str, folder: Path, trap: bytes) -> Any:
    """Puts a trap in the place of one file of a model; gives back what loads that model."""
    if kind in ("embedding", "segmentation", "plda"):
        pipeline = mirror(DEMO_DIR / "diarization", folder / "diarization")
        (pipeline / "segmentation").mkdir()
        (pipeline / "segmentation" / "pytorch_model.bin").symlink_to(BUNDLED)
        file = {"plda": "plda/plda.npz"}.get(kind, f"{kind}/pytorch_model.bin")
        swap(pipeline / file, trap)
        return lambda: PyannoteDiarizer(str(pipeline), "cpu", 32, folder)
    if kind == "aligner":
        aligner = mirror(DEMO_DIR / "align", folder / "align")
        swap(aligner / "model.safetensors", None)
        swap(aligner / "pytorch_model.bin", trap)
        return lambda: Wav2Vec2Aligner("en", str(aligner), "cpu", 8, folder)
    if kind == "torchaudio aligner":
        (folder / "wav2vec2_fairseq_base_ls960_asr_ls960.pth").write_bytes(trap)
        return lambda: Wav2Vec2Aligner("en", "", "cpu", 8, folder)
    whisper = mirror(DEMO_DIR / "whisper", folder / "whisper")
    swap(whisper / "model.bin", trap)
    return lambda: WhisperRecognizer(whisper, "cpu", "int8", 1, 1)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_a_trapped_checkpoint_is_refused_and_the_trap_not_sprung(
    tmp_path: Path, kind: str, form: str
) -> None:
    marker = tmp_path / "sprung"
    trap = as_arrays(marker) if kind == "plda" else FORMS[form](marker)
    load = plant(kind, tmp_path, trap)
    with pytest.raises(Exception):  # noqa: B017, PT011 - each library has its own
        load()
    assert not marker.exists()


@pytest.mark.parametrize("form", FORMS)
def test_the_traps_are_real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    """Without PyTorch's variable, pyannote.audio and torch.hub spring them: it is what protects."""
    monkeypatch.delenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD")
    for number, load in enumerate((Model.from_pretrained, _from_hub)):
        marker = tmp_path / f"sprung {number}"
        checkpoint = tmp_path / f"model{number}.bin"
        checkpoint.write_bytes(FORMS[form](marker))
        with pytest.raises(Exception):  # noqa: B017, PT011 - it is no model either
            _ = load(checkpoint).state_dict
        assert marker.is_dir()


def _from_hub(path: Path) -> Any:
    return torch.hub.load_state_dict_from_url(f"https://nowhere/{path.name}", str(path.parent))


@pytest.mark.filterwarnings("ignore:.*TorchScript")
def test_a_script_in_place_of_weights_is_refused(tmp_path: Path) -> None:
    """TorchScript brings its own code along; torch.load would hand it to torch.jit.load."""
    script = torch.jit.script(torch.nn.Linear(1, 1))
    torch.jit.save(script, tmp_path / "script.bin")
    load = plant("embedding", tmp_path, (tmp_path / "script.bin").read_bytes())
    with pytest.raises(RuntimeError, match="TorchScript"):
        load()


def test_what_is_allowed_beside_weights_is_no_more_than_the_real_models_need() -> None:
    allow_metadata()
    needed = set()
    for checkpoint in (BUNDLED, DEMO_DIR / "diarization" / "embedding" / "pytorch_model.bin"):
        assert torch.serialization.get_unsafe_globals_in_checkpoint(str(checkpoint)) == []
        torch.serialization.clear_safe_globals()
        needed |= set(torch.serialization.get_unsafe_globals_in_checkpoint(str(checkpoint)))
        allow_metadata()
    allowed = {
        f"{kind.__module__}.{getattr(kind, '__name__', kind)}"
        for kind in torch.serialization.get_safe_globals()
    }
    assert allowed == needed


# -- configurations ------------------------------------------------------------------------------


def config_of(pipeline: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((pipeline / "config.yaml").read_text())
    return content


def test_a_pipeline_cannot_name_another_class(tmp_path: Path) -> None:
    """pyannote.audio makes an object of whatever class a config.yaml names."""
    pipeline = shutil.copytree(DEMO_DIR / "diarization", tmp_path / "pipeline")
    marker = tmp_path / "sprung"
    trap = {"name": "subprocess.Popen", "params": {"args": ["mkdir", str(marker)]}}
    honest = config_of(pipeline)
    for change in ({"preprocessors": {"audio": trap}}, {"pipeline": trap}, {"pipeline": None}):
        (pipeline / "config.yaml").write_text(yaml.safe_dump(honest | change))
        with pytest.raises(ModelUnavailable, match="DIARIZATION_MODEL"):
            PyannoteDiarizer(str(pipeline), "cpu", WindowBatches(8, 8), tmp_path)
    (pipeline / "config.yaml").write_text("!!python/object/apply:os.mkdir ['" + str(marker) + "']")
    with pytest.raises(yaml.YAMLError):
        PyannoteDiarizer(str(pipeline), "cpu", WindowBatches(8, 8), tmp_path)
    assert not marker.exists()
    (pipeline / "config.yaml").write_text(yaml.safe_dump(honest))
    PyannoteDiarizer(str(pipeline), "cpu", WindowBatches(8, 8), tmp_path).close()


def test_code_beside_a_model_is_not_imported(tmp_path: Path) -> None:
    """A model's configuration may name classes of its own folder: trust_remote_code."""
    marker = tmp_path / "sprung"
    aligner = mirror(DEMO_DIR / "align", tmp_path / "align")
    config = json.loads((aligner / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "evil.Config", "AutoModelForCTC": "evil.Model"}
    swap(aligner / "config.json", json.dumps(config).encode())
    swap(aligner / "evil.py", f"import os\nos.mkdir({str(marker)!r})\n".encode())
    Wav2Vec2Aligner("en", str(aligner), "cpu", 8, tmp_path).close()
    assert not marker.exists()


def test_remote_code_is_never_trusted() -> None:
    """Neither is any pickle read by code of the service, but for the answers of its own processes,
    whose reader knows the few classes that they may have.
    """
    banned = {"trust_remote_code", "pickle", "allow_pickle", "weights_only", "joblib", "dill"}
    sources = [p for p in (ROOT / "app").rglob("*.py") if "demo" not in p.relative_to(ROOT).parts]
    assert len(sources) > 30
    for path in sources:
        with path.open("rb") as source:
            names = {token.string for token in tokenize(source.readline) if token.type == NAME}
        allowed = {"pickle"} if path.name == "decoder.py" else set()
        assert not names & banned - allowed, path


@pytest.mark.parametrize(("given", "expected"), [(None, "1"), ("", "1"), ("0", "0")])
def test_the_protection_is_on_unless_an_operator_lifts_it(
    monkeypatch: pytest.MonkeyPatch, given: str | None, expected: str
) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")  # an old recipe for whisperx
    if given is None:
        monkeypatch.delenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD")
    else:
        monkeypatch.setenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", given)
    prepare_environment(Settings(_env_file=None))  # type: ignore[call-arg]
    assert os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] == expected
    assert "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD" not in os.environ
