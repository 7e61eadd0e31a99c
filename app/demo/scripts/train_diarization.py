"""Train the kit's speaker-diarization pipeline for pyannote.audio 4 (and so for whisperx.diarize).

What is trained here, on nothing but artificial voices, is the speaker embedding: pyannote's own XVectorMFCC, as a
classifier of some 600 voices with an additive-margin softmax, and the PLDA that pyannote 4 wants beside it. Only
half and less of XVectorMFCC's fixed channels are used; the others are zero, which the compressed file stores for
free. Finding speech and speaker changes is left to the real segmentation model that the whisperx package brings
along; the pipeline refers to it instead of holding a copy:

    from train_diarization import load_diarization, resolve
    pipeline = load_diarization("../diarization")                                   # a pyannote.audio.Pipeline
    pipeline = whisperx.diarize.DiarizationPipeline(resolve("../diarization"))      # the same through whisperx

or, where only a path will do, once `python train_diarization.py --install FOLDER` and then
`Pipeline.from_pretrained(FOLDER)`.

    python train_diarization.py --minutes 20            # trains, writes ../diarization/
    python train_diarization.py --tune                  # chooses the clustering threshold, writes config.yaml
    python train_diarization.py --evaluate              # writes ../diarization/METRICS.json
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import math
import os
import random
import shutil
import time
import warnings
import zipfile
from pathlib import Path

import numpy as np
import torch
import yaml

os.environ.setdefault("PYANNOTE_METRICS_ENABLED", "0")  # no telemetry: there is no internet to send it to
warnings.filterwarnings("ignore", message="(?s).*torchcodec")
warnings.filterwarnings("ignore", message="(?s).*TensorFloat-32")

HERE = Path(__file__).resolve().parent.parent  # the demo folder, which holds the models
WIDTHS = (256, 256, 256, 256, 512)  # of XVectorMFCC's 512, 512, 512, 512, 1500 channels
DIMENSION = 128
MFCC = {"n_mfcc": 40, "melkwargs": {"n_fft": 512, "win_length": 400, "hop_length": 320, "n_mels": 64}}


# ------------------------------------------------------------------------------------------------- loading


def segmentation_model() -> str:
    """The speaker segmentation model in the installed whisperx package."""
    package = importlib.util.find_spec("whisperx")
    return str(Path(package.submodule_search_locations[0]) / "assets" / "pytorch_model.bin")


def resolve(folder: str | Path) -> dict:
    """The folder's config.yaml as a dict with real paths: pyannote accepts one wherever it accepts a path."""
    folder = Path(folder).resolve()
    config = yaml.safe_load((folder / "config.yaml").read_text())
    parameters = config["pipeline"]["params"]
    for key, value in parameters.items():
        if isinstance(value, str) and value.startswith("$model/"):
            parameters[key] = str(folder / value.removeprefix("$model/"))
    if not Path(parameters["segmentation"]).exists():
        parameters["segmentation"] = segmentation_model()
    return config


def load_diarization(folder: str | Path):
    """The pipeline, ready to use: pipeline({"waveform": tensor, "sample_rate": 16000}, num_speakers=2)."""
    from pyannote.audio import Pipeline

    return Pipeline.from_pretrained(resolve(folder))


def install(source: Path, target: Path) -> None:
    """A folder for Pipeline.from_pretrained(path), with the segmentation model linked or else copied into it."""
    shutil.copytree(source, target, dirs_exist_ok=True)
    (target / "segmentation").mkdir(exist_ok=True)
    model = target / "segmentation" / "pytorch_model.bin"
    model.unlink(missing_ok=True)
    try:
        model.symlink_to(segmentation_model())
    except OSError:
        shutil.copy(segmentation_model(), model)


# ------------------------------------------------------------------------------------------------ training


def narrow_model():
    """An XVectorMFCC with narrower layers: what is trained."""
    from pyannote.audio.models.embedding import XVectorMFCC
    from torch import nn

    model = XVectorMFCC(mfcc=MFCC, dimension=DIMENSION)
    layers, width = [], MFCC["n_mfcc"]
    for out, kernel, dilation in zip(WIDTHS, model.kernel_size, model.dilation):
        layers += [nn.Conv1d(width, out, kernel, dilation=dilation), nn.LeakyReLU(), nn.BatchNorm1d(out)]
        width = out
    model.tdnns = nn.ModuleList(layers)
    model.embedding = nn.Linear(2 * width, DIMENSION)
    return model


def widen(narrow):
    """The XVectorMFCC of pyannote's fixed width that computes the same, its other channels zero."""
    from pyannote.audio.models.embedding import XVectorMFCC

    wide = XVectorMFCC(mfcc=MFCC, dimension=DIMENSION)
    state, small = wide.state_dict(), narrow.state_dict()
    for key, value in state.items():
        if key.startswith("mfcc") or "num_batches" in key or key == "embedding.bias":
            value.copy_(small[key])
        elif key == "embedding.weight":  # means, then standard deviations
            half, used = value.shape[1] // 2, WIDTHS[-1]
            value.zero_()
            value[:, :used] = small[key][:, :used]
            value[:, half:half + used] = small[key][:, used:]
        else:
            value.fill_(1.0 if key.endswith("running_var") else 0.0)
            value[tuple(slice(n) for n in small[key].shape)] = small[key]
    wide.load_state_dict(state)
    return wide.eval()


def save(narrow, folder: Path) -> None:
    """embedding/pytorch_model.bin, as pyannote's Model.from_pretrained reads it: half precision, deflated."""
    import lightning
    import pyannote.audio
    from pyannote.audio.core.task import Problem, Resolution, Specifications

    model = widen(narrow)
    state = {k: v.half() if v.is_floating_point() and not k.startswith("mfcc") else v
             for k, v in model.state_dict().items()}
    checkpoint = {
        "state_dict": state, "hyper_parameters": dict(model.hparams), "epoch": 0, "global_step": 0,
        "pytorch-lightning_version": lightning.__version__,
        "pyannote.audio": {
            "versions": {"pyannote.audio": pyannote.audio.__version__},
            "architecture": {"module": "pyannote.audio.models.embedding.xvector", "class": "XVectorMFCC"},
            "specifications": Specifications(problem=Problem.REPRESENTATION, resolution=Resolution.CHUNK,
                                             duration=5.0)}}
    (folder / "embedding").mkdir(parents=True, exist_ok=True)
    path = folder / "embedding" / "pytorch_model.bin"
    plain = path.with_suffix(".plain")
    torch.save(checkpoint, plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.infolist():  # torch.load reads deflated archives as well as its own stored ones
            target.writestr(entry.filename, source.read(entry.filename), compresslevel=9)
    plain.unlink()


def training_voices(rng: random.Random, per_variant: int) -> list:
    """The classes: every training variant with several settings that differ audibly."""
    import conversation

    voices = []
    for name in conversation.TRAIN_ESPEAK:
        shifts = [0.84 + 0.38 * (i + rng.random() * 0.5) / per_variant for i in range(per_variant)]
        pitches = [20 + 60 * (i + rng.random() * 0.5) / per_variant for i in range(per_variant)]
        rng.shuffle(pitches)
        voices += [conversation.Voice("espeak", name, pitch=round(p), pitch_range=rng.randint(30, 70),
                                      rate=rng.randint(140, 185), shift=round(s, 3), accent=rng.randrange(4))
                   for s, p in zip(shifts, pitches)]
    for name in conversation.TRAIN_FLITE:
        voices += [conversation.Voice("flite", name, shift=round(0.84 + 0.38 * i / 8, 3)) for i in range(9)]
    return voices


class Pool:
    """Spoken sentences per voice, some of them replaced all the time."""

    def __init__(self, voices: list, each: int, seed: int) -> None:
        from train_align import Texts

        self.voices, self.rng, self.texts = voices, random.Random(seed), Texts(seed)
        self.sounds = [[self.speak(v) for _ in range(each)] for v in voices]

    def speak(self, voice) -> np.ndarray:
        import conversation
        from dataclasses import replace

        while True:
            text, language = self.texts.draw()
            if voice.engine == "flite" and language == "es":
                continue
            today = replace(voice, rate=round(voice.rate * self.rng.uniform(0.9, 1.1)),
                            pitch=max(0, min(99, voice.pitch + self.rng.randint(-3, 3))))
            try:
                said = conversation.speak(text, language, today)
            except ValueError:
                continue
            if said.duration > 0.8:
                return (said.audio * 32767).astype(np.int16)

    def crop(self, who: int, samples: int) -> np.ndarray:
        """Augmented speech of one voice, exactly `samples` long."""
        from train_align import augment

        pieces, have = [], 0
        while have < samples:
            piece = self.rng.choice(self.sounds[who])
            pieces.append(piece)
            have += len(piece)
        sound = np.concatenate(pieces).astype(np.float32) / 32768
        at = self.rng.randrange(have - samples + 1)
        return augment(sound[at:at + samples], self.rng, colour=1.0)

    def batch(self, count: int, samples: int, fresh: int) -> tuple[torch.Tensor, torch.Tensor]:
        for _ in range(fresh):
            who = self.rng.randrange(len(self.voices))
            self.sounds[who][self.rng.randrange(len(self.sounds[who]))] = self.speak(self.voices[who])
        who = self.rng.sample(range(len(self.voices)), count)
        return torch.from_numpy(np.stack([self.crop(w, samples) for w in who]))[:, None], torch.tensor(who)


def train(options: argparse.Namespace) -> None:
    torch.manual_seed(options.seed)
    rng = random.Random(options.seed)
    voices = training_voices(rng, options.per_variant)
    model = narrow_model()
    classes = torch.nn.Parameter(torch.randn(len(voices), DIMENSION) * 0.1)
    parameters = [*model.parameters(), classes]
    optimizer = torch.optim.AdamW(parameters, lr=options.rate, weight_decay=0.02)
    began, budget, step = time.time(), options.minutes * 60, 0
    checkpoint = options.cache / "diarization.pt"
    if options.resume:
        state = torch.load(checkpoint)
        model.load_state_dict(state["model"])
        classes.data.copy_(state["classes"])
    pool = Pool(voices, options.each, options.seed)
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M weights, {len(voices)} voices spoke after "
          f"{time.time() - began:.0f} s", flush=True)
    began, running = time.time(), []
    model.train()
    while (elapsed := time.time() - began) < budget:
        progress = elapsed / budget
        lr = options.rate * min(1, (step + 1) / 100) * max(0.01, 0.5 + 0.5 * math.cos(math.pi * progress))
        for group in optimizer.param_groups:
            group["lr"] = lr
        sounds, who = pool.batch(options.batch, int(16000 * rng.uniform(1.5, 3.0)), options.fresh)
        embeddings = torch.nn.functional.normalize(model(sounds))
        cosines = embeddings @ torch.nn.functional.normalize(classes).T
        margin = options.margin * (1.0 if options.resume else min(1.0, max(0.0, (progress - 0.1) / 0.4)))
        loss = torch.nn.functional.cross_entropy(
            30 * (cosines - margin * torch.nn.functional.one_hot(who, len(voices))), who)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        optimizer.step()
        step += 1
        running.append((loss.item(), (cosines.argmax(1) == who).float().mean().item()))
        if step % 25 == 0:
            a, b = np.mean(running, axis=0)
            running.clear()
            print(f"step {step}  {elapsed / 60:5.1f} min  loss {a:.3f}  right {b:.3f}  lr {lr:.1e}", flush=True)
        if step % 200 == 0:
            save(model, options.out)
    save(model, options.out)
    options.cache.mkdir(parents=True, exist_ok=True)
    torch.save({"model": model.state_dict(), "classes": classes.detach()}, checkpoint)
    model.eval()
    fit_plda(model, pool, options.out)
    if not (options.out / "config.yaml").exists():
        write_config(options.out, options.method, 4, 0.7, 0.5, 0.2, options.step)
    print(f"{step} steps, saved {options.out}", flush=True)


def fit_plda(model, pool: Pool, folder: Path, each: int = 8, dimension: int = 64) -> None:
    """plda/: centring, linear discriminant analysis and PLDA of the training voices, for pyannote's VBx clustering."""
    from scipy.linalg import eigh

    found = []
    with torch.inference_mode():
        for who in range(len(pool.voices)):
            found.append(model(torch.from_numpy(np.stack([pool.crop(who, 32000) for _ in range(each)]))[:, None]).numpy())
    vectors = np.stack(found).astype(np.float64)  # voice, sample, dimension

    def unit(x):
        return x / np.linalg.norm(x, axis=-1, keepdims=True)

    def scatter(x):
        means = x.mean(1)
        inner = (x - means[:, None]).reshape(-1, x.shape[-1])
        return np.cov(inner.T) + 1e-5 * np.eye(x.shape[-1]), np.cov(means.T)

    mean1 = vectors.mean((0, 1))
    x = math.sqrt(DIMENSION) * unit(vectors - mean1)
    within, between = scatter(x)
    lda = eigh(between, within)[1][:, ::-1][:, :dimension]
    x = x @ lda
    mean2 = x.mean((0, 1))
    x = math.sqrt(dimension) * unit(x - mean2)
    within, between = scatter(x)
    psi, transform = eigh(between, within)
    (folder / "plda").mkdir(parents=True, exist_ok=True)
    np.savez(folder / "plda" / "xvec_transform.npz", mean1=mean1, mean2=mean2, lda=lda)
    np.savez(folder / "plda" / "plda.npz", mu=x.mean((0, 1)), tr=transform.T, psi=np.maximum(psi, 1e-6))


def write_config(folder: Path, method: str, size: int, threshold: float, onset: float, pause: float,
                 step: float) -> None:
    """config.yaml. `$model/segmentation` stands for whisperx's model: see `resolve` and `install`."""
    (folder / "config.yaml").write_text(yaml.safe_dump({
        "dependencies": {"pyannote.audio": "4.0.0"},
        "pipeline": {"name": "pyannote.audio.pipelines.SpeakerDiarization", "params": {
            "segmentation": "$model/segmentation", "segmentation_step": step, "segmentation_batch_size": 16,
            "embedding": "$model/embedding", "embedding_batch_size": 16, "embedding_exclude_overlap": True,
            "plda": "$model/plda", "clustering": "AgglomerativeClustering"}},
        "params": {"segmentation": {"threshold": onset, "min_duration_off": pause},
                   "clustering": {"method": method, "min_cluster_size": size, "threshold": threshold}},
    }, sort_keys=False))


# ---------------------------------------------------------------------------------------------- evaluation


def conversations(count: int, seed: int, held_out: bool) -> list:
    """Conversations of two and three voices in both languages: (file for pyannote, reference, speakers)."""
    import conversation
    import grammar
    from pyannote.core import Annotation, Segment

    made = []
    for i in range(count):
        rng = random.Random(seed + i)
        language, speakers = ("en", "es")[i % 2], 2 + (i // 2) % 2
        sentences = [grammar.sentence(rng)[language == "es"] for _ in range(rng.randint(10, 20))]
        talk = conversation.converse(sentences, conversation.cast(rng, speakers, held_out, language), seed + i,
                                     language, overlap=0.1)
        reference = Annotation(uri=f"synthetic{i}")
        for turn in talk.turns:
            reference[Segment(turn.start, turn.end), len(reference)] = turn.speaker
        file = {"waveform": torch.from_numpy(talk.audio)[None], "sample_rate": 16000, "uri": f"synthetic{i}"}
        made.append((file, reference, len({t.speaker for t in talk.turns})))
    return made


def tune(options: argparse.Namespace) -> None:
    """Try settings on conversations of training voices; segmentation and embeddings are computed once."""
    from pyannote.metrics.diarization import DiarizationErrorRate

    write_config(options.out, options.method, 4, 0.7, 0.5, 0.2, options.step)
    pipeline = load_diarization(options.out)
    pipeline.training = True  # keeps segmentation and embeddings in the file
    files = conversations(options.conversations, 5000, held_out=False)
    results = []
    for onset, pause, size, threshold in itertools.product(options.onset, options.pause, options.cluster_size,
                                                           np.arange(0.15, 0.95, 0.025)):
        pipeline.instantiate({
            "segmentation": {"threshold": onset, "min_duration_off": pause},
            "clustering": {"method": options.method, "min_cluster_size": size, "threshold": float(threshold)}})
        metric, right = DiarizationErrorRate(), 0
        for file, reference, speakers in files:
            output = pipeline.apply(file)
            metric(reference, output.speaker_diarization)
            right += len(output.speaker_diarization.labels()) == speakers
        results.append((abs(metric), onset, pause, size, float(threshold)))
        print(f"onset {onset}  pause {pause}  size {size}  threshold {threshold:.2f}  DER {abs(metric):.4f}  "
              f"right number of speakers {right}/{len(files)}", flush=True)
    best = min(results)
    _, onset, pause, size, _ = best
    threshold = float(np.median([r[4] for r in results if r[1:4] == best[1:4] and r[0] < best[0] + 0.005]))
    write_config(options.out, options.method, size, round(threshold, 3), onset, pause, options.step)
    print(f"best DER {best[0]:.4f}; chosen: onset {onset}, pause {pause}, size {size}, threshold {threshold:.3f} "
          "(the middle of the plateau)")


def real_sample():
    """The only real recording at hand: pyannote's 30 s sample of two women on the telephone."""
    import wave

    from pyannote.core import Annotation, Segment

    folder = Path(importlib.util.find_spec("pyannote.audio").submodule_search_locations[0]) / "sample"
    with wave.open(str(folder / "sample.wav")) as f:
        sound = np.frombuffer(f.readframes(f.getnframes()), "<i2").astype(np.float32) / 32768
    reference = Annotation(uri="sample")
    for line in (folder / "sample.rttm").read_text().splitlines():
        field = line.split()
        reference[Segment(float(field[3]), float(field[3]) + float(field[4])), len(reference)] = field[7]
    return {"waveform": torch.from_numpy(sound)[None], "sample_rate": 16000, "uri": "sample"}, reference


def evaluate(options: argparse.Namespace) -> dict:
    """DER without collar, overlaps included, on held-out voices and on the real sample."""
    from pyannote.metrics.diarization import DiarizationErrorRate

    pipeline = load_diarization(options.out)
    pipeline.training = True  # keeps segmentation and embeddings in the file
    embedding = options.out / "embedding" / "pytorch_model.bin"
    metrics: dict = {"embedding_bytes": embedding.stat().st_size,
                     "bytes": sum(f.stat().st_size for f in options.out.rglob("*")
                                  if f.is_file() and f.name != "METRICS.json"),
                     "weights_used": sum(p.numel() for p in narrow_model().parameters())}
    spoken = spent = 0.0
    files = conversations(options.conversations, 90_000, held_out=True)
    for speakers in (2, 3):
        chosen = [f for f in files if f[2] == speakers]
        for known in (False, True):
            metric, exclusive, right = DiarizationErrorRate(), DiarizationErrorRate(), 0
            loose = DiarizationErrorRate(collar=0.5, skip_overlap=True)
            for file, reference, _ in chosen:
                began = time.time()
                output = pipeline.apply(file, num_speakers=speakers if known else None)
                if not known:  # the second time segmentation and embeddings are there already
                    spent += time.time() - began
                    spoken += file["waveform"].shape[1] / 16000
                metric(reference, output.speaker_diarization)
                loose(reference, output.speaker_diarization)
                exclusive(reference, output.exclusive_speaker_diarization)
                right += len(output.speaker_diarization.labels()) == speakers
                assert output.speaker_embeddings.shape == (len(output.speaker_diarization.labels()), DIMENSION)
            metrics[f"synthetic_{speakers}_speakers_{'known' if known else 'unknown'}_number"] = {
                "conversations": len(chosen), "der": round(abs(metric), 4),
                "missed": round(metric["missed detection"] / metric["total"], 4),
                "false_alarm": round(metric["false alarm"] / metric["total"], 4),
                "confusion": round(metric["confusion"] / metric["total"], 4),
                "der_collar_250_ms": round(abs(loose), 4),
                "der_exclusive": round(abs(exclusive), 4), "right_number_of_speakers": right}
    file, reference = real_sample()
    for known in (False, True):
        output = pipeline(file, num_speakers=2 if known else None)
        metric = DiarizationErrorRate()
        detail = metric(reference, output.speaker_diarization, detailed=True)
        metrics[f"real_sample_{'known' if known else 'unknown'}_number"] = {
            "der": round(abs(metric), 4), "confusion": round(detail["confusion"] / detail["total"], 4),
            "speakers_found": len(output.speaker_diarization.labels())}
    metrics["speed"] = f"{spoken / spent:.1f} x real time, 1 thread"
    return metrics


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE / "diarization")
    parser.add_argument("--tune", action="store_true", help="choose the clustering threshold")
    parser.add_argument("--evaluate", action="store_true", help="measure the pipeline in --out")
    parser.add_argument("--install", type=Path, metavar="FOLDER", help="write a folder that needs no resolving")
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--rate", type=float, default=2e-3, help="learning rate")
    parser.add_argument("--margin", type=float, default=0.2, help="of the additive-margin softmax")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --cache")
    parser.add_argument("--cache", type=Path, default=Path("cache"), help="for the training checkpoint")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--per-variant", type=int, default=7, help="voices made of every espeak variant")
    parser.add_argument("--each", type=int, default=6, help="sentences kept in memory per voice")
    parser.add_argument("--fresh", type=int, default=4, help="sentences replaced before every batch")
    parser.add_argument("--method", default="average", help="linkage, for --tune")
    parser.add_argument("--onset", type=float, nargs="+", default=[0.7, 0.8, 0.9], help="of speech, for --tune")
    parser.add_argument("--pause", type=float, nargs="+", default=[0.5], help="filled up, for --tune")
    parser.add_argument("--cluster-size", type=int, nargs="+", default=[3], help="least sizes, for --tune")
    parser.add_argument("--step", type=float, default=0.2, help="hop of the 5 s windows, as a part of their length")
    parser.add_argument("--conversations", type=int, default=24, help="for --tune and --evaluate")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.install:
        install(options.out, options.install)
    elif options.tune:
        tune(options)
    elif options.evaluate:
        metrics = evaluate(options)
        (options.out / "METRICS.json").write_text(json.dumps(metrics, indent=2) + "\n")
        print(json.dumps(metrics, indent=2))
    else:
        train(options)


if __name__ == "__main__":
    main()
