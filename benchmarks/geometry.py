"""The models of a run: those of the embedded demo, or random weights with the real geometry.

Each is a folder in the format of the real model, and both sides load it like any other. Folders are
built once into a cache; nothing is downloaded.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import pyannote.audio
import torch
import whisperx
import yaml
from pyannote.audio.core.task import Problem, Resolution, Specifications
from pyannote.audio.models.embedding.wespeaker import WeSpeakerResNet34
from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

from app.config.settings import DEMO_DIR
from app.domain.transcript import SAMPLE_RATE, Samples
from benchmarks.audio import LONGEST, read_samples
from benchmarks.random_whisper import GEOMETRIES, write_whisper

VERSION = 2  # increased when the contents of the folders change
LANGUAGE = "en"
MODELS = ("demo", *GEOMETRIES)
BLANK_LOGIT = 12.0  # above letters: a CTC model is sure of "nothing new" in most frames
CALIBRATION_S = 28  # of speech

# as facebook/wav2vec2-base-960h
ALPHABET = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ETAONIHSRDLUMWCFGYPBVK'XJQZ"]


@dataclass(frozen=True, slots=True)
class ModelSet:
    """Folders for the service's settings."""

    name: str
    whisper: Path
    aligner: Path
    diarization: Path


def build_models(name: str, cache: Path) -> ModelSet:
    """The models, built unless cached. large-v3 takes a few minutes and 8 GB of memory."""
    if name == "demo":
        diarization = _built(cache / "demo-diarization", _write_demo_diarization)
        return ModelSet(name, DEMO_DIR / "whisper", DEMO_DIR / "align", diarization)

    def write(folder: Path) -> None:
        write_whisper(GEOMETRIES[name], DEMO_DIR / "whisper", _speech(), folder)

    return ModelSet(
        name,
        _built(cache / f"whisper-{name}", write),
        _built(cache / "wav2vec2-base", write_wav2vec2),
        _built(cache / "wespeaker-diarization", write_diarization),
    )


def _built(folder: Path, write: Any) -> Path:
    """The folder, which is written unless this version exists. It is never left half written."""
    folder = folder.absolute()
    stamp = folder / "built"
    if not stamp.is_file() or stamp.read_text() != str(VERSION):
        shutil.rmtree(folder, ignore_errors=True)
        partial = folder.with_name(folder.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        write(partial)
        (partial / "built").write_text(str(VERSION))
        partial.rename(folder)
    return folder


def _speech() -> Samples:
    return read_samples(LONGEST)[: CALIBRATION_S * SAMPLE_RATE]


def write_wav2vec2(folder: Path) -> None:
    """Write wav2vec2-base with a CTC head whose probabilities are as peaked as a trained one's.

    Random features differ from frame to frame; the head turns them into occasional letters with
    blanks in between. With less certain blanks, every text would align to the first seconds. And if
    nothing stands out, two equivalent computations may find different paths.
    """
    torch.manual_seed(0)
    config = Wav2Vec2Config(
        vocab_size=len(ALPHABET), pad_token_id=0, bos_token_id=1, eos_token_id=2, layerdrop=0.0
    )
    model = Wav2Vec2ForCTC(config).eval()
    with torch.inference_mode():
        hidden = model.wav2vec2(torch.from_numpy(_speech()[: 10 * SAMPLE_RATE])[None])[0][0]
        weight = torch.randn(model.lm_head.weight.shape)
        logits = hidden @ weight.T
        scale = 3.0 / logits.std(dim=0).mean()
        model.lm_head.weight.copy_(weight * scale)
        model.lm_head.bias.copy_(-logits.mean(dim=0) * scale)
        model.lm_head.bias[0] += BLANK_LOGIT
    model.save_pretrained(folder)
    demo = DEMO_DIR / "align"
    for name in ("preprocessor_config.json", "tokenizer_config.json", "special_tokens_map.json"):
        if (demo / name).is_file():
            shutil.copy(demo / name, folder / name)
    vocabulary = {letter: i for i, letter in enumerate(ALPHABET)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))


def write_diarization(folder: Path) -> None:
    """Write a pipeline with the segmentation model in whisperx and WeSpeaker's ResNet34.

    The embeddings are centered on speech, so that clustering finds several meaningless "speakers".
    One window per second, as in pyannote's community-1. Clustering is agglomerative and needs no
    PLDA, but pyannote always loads one, so this uses the demo's.
    """
    torch.manual_seed(0)
    model = WeSpeakerResNet34().eval()
    windows = torch.from_numpy(_speech()).unfold(0, 5 * SAMPLE_RATE, 5 * SAMPLE_RATE)
    with torch.inference_mode():
        model.resnet.seg_1.bias -= model(windows[:, None]).mean(dim=0)
    (folder / "embedding").mkdir()
    torch.save(
        {
            "state_dict": model.state_dict(),
            "hyper_parameters": dict(model.hparams),
            "epoch": 0,
            "global_step": 0,
            "pytorch-lightning_version": lightning.__version__,
            "pyannote.audio": {
                "versions": {"pyannote.audio": pyannote.audio.__version__},
                "architecture": {
                    "module": WeSpeakerResNet34.__module__,
                    "class": WeSpeakerResNet34.__name__,
                },
                "specifications": Specifications(
                    problem=Problem.REPRESENTATION, resolution=Resolution.CHUNK, duration=5.0
                ),
            },
        },
        folder / "embedding" / "pytorch_model.bin",
    )
    _write_pipeline(folder, {"method": "average", "min_cluster_size": 12, "threshold": 0.9})


def _write_demo_diarization(folder: Path) -> None:
    shutil.copytree(DEMO_DIR / "diarization" / "embedding", folder / "embedding")
    clustering = yaml.safe_load((DEMO_DIR / "diarization" / "config.yaml").read_text())["params"]
    _write_pipeline(folder, clustering["clustering"])


def _write_pipeline(folder: Path, clustering: dict[str, Any]) -> None:
    """Write the demo's config.yaml with this clustering, and the models that pipelines share."""
    shutil.copytree(DEMO_DIR / "diarization" / "plda", folder / "plda")
    (folder / "segmentation").mkdir()
    assets = Path(whisperx.__file__).parent / "assets"
    shutil.copy(assets / "pytorch_model.bin", folder / "segmentation")
    config = yaml.safe_load((DEMO_DIR / "diarization" / "config.yaml").read_text())
    config["params"]["clustering"] = clustering
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
