"""Train the kit's forced-alignment model: a wav2vec2 CTC network of a million weights, English and Spanish.

Data: sentences spoken by the artificial voices of conversation.py. Half of them come from grammar.py; the rest are
random sequences of English words (those of Python's own manual) and of invented Spanish words, so that the model
learns how letters sound rather than a list of words.

Loss: CTC over the letters, plus a cross-entropy on the frames whose letter is certain because the synthesiser tells
when each word starts and ends: the first letter of a word belongs to its first frame, its last letter to its last
frame, the separator `|` to the frame where it ends, and nothing to pauses. This keeps the peaks of the CTC output
where whisperx reads word boundaries from.

    python train_align.py --minutes 40                  # trains, writes ../align/
    python train_align.py --evaluate                    # writes ../align/METRICS.json
"""

from __future__ import annotations

import argparse
import json
import math
import random
import re
import time
import unicodedata
from pathlib import Path

import numpy as np
import torch
from transformers import (Wav2Vec2Config, Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC,
                          Wav2Vec2Processor)

import conversation
import grammar

HERE = Path(__file__).resolve().parent.parent  # the demo folder, which holds the models
RATE = conversation.SAMPLE_RATE
SYMBOLS = ["<pad>", "<s>", "</s>", "<unk>", "|", *"abcdefghijklmnopqrstuvwxyz'áéíóúüñ"]
INDEX = {c: i for i, c in enumerate(SYMBOLS)}
BLANK, SEPARATOR, UNKNOWN = 0, INDEX["|"], -100


# --------------------------------------------------------------------------------------------------- text


def english_words() -> list[str]:
    """Words of the Python reference manual, which comes with every Python."""
    from pydoc_data.topics import topics

    counts: dict[str, int] = {}
    for word in re.findall(r"(?<![\w.`\"'_(])[a-z]{2,12}(?![\w.`\"'_(])", " ".join(topics.values())):
        counts[word] = counts.get(word, 0) + 1
    return sorted(w for w, n in counts.items() if n >= 2 and re.search("[aeiouy]", w))


def spanish_word(rng: random.Random) -> str:
    """An invented word that follows Spanish spelling."""
    onsets = "b c d f g l m n p r s t v j ll ñ ch z qu br cr tr pr gr pl cl fl bl h y rr".split()
    word, stress = "", rng.randrange(4)
    for i in range(rng.choice((1, 2, 2, 2, 3, 3, 4))):
        onset = rng.choice(onsets + [""] * 3)
        if onset == "rr" and i == 0:
            onset = "r"
        vowel = rng.choice("ei") if onset == "qu" else rng.choice("aeiouaeo")
        if onset == "g" and vowel == "e" and rng.random() < 0.3:
            onset = "gü"
        if i == stress and rng.random() < 0.6:
            vowel = vowel.translate(str.maketrans("aeiou", "áéíóú"))
        word += onset + vowel + rng.choice(["", "", "", "", "n", "s", "r", "l"])
    return word


class Texts:
    """Draws sentences: (text, language)."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.english = english_words()
        self.spanish = sorted(grammar.vocabulary("es"))

    def draw(self) -> tuple[str, str]:
        rng = self.rng
        language = rng.choice(("en", "es"))
        if rng.random() < 0.5:
            return grammar.sentence(rng)[language == "es"], language
        count = rng.randint(2, 7)
        if language == "en":
            words = [rng.choice(self.english) for _ in range(count)]
        else:
            words = [rng.choice(self.spanish) if rng.random() < 0.3 else spanish_word(rng) for _ in range(count)]
        if count > 4 and rng.random() < 0.4:
            words[count // 2] += ","
        return " ".join(words).capitalize() + rng.choice(".....?!"), language


def letters(word: str) -> list[int]:
    """The symbols of a word: lower case, without letters that the vocabulary lacks."""
    word = unicodedata.normalize("NFC", word.lower()).replace("’", "'")
    return [INDEX[c] for c in word if c in INDEX]


# --------------------------------------------------------------------------------------------------- audio


class Pool:
    """Spoken sentences, a few of which are replaced before every batch."""

    def __init__(self, size: int, seed: int) -> None:
        self.texts, self.rng = Texts(seed), random.Random(seed + 1)
        self.items: list[tuple[np.ndarray, list]] = []
        while len(self.items) < size:
            self.items.append(self.speak())

    def speak(self) -> tuple[np.ndarray, list]:
        while True:
            text, language = self.texts.draw()
            try:
                said = conversation.speak(text, language, conversation.random_voice(self.rng, language=language))
            except ValueError:  # the synthesiser merged or split words: no certain times
                continue
            if 0.4 < said.duration < 7 and all(letters(w.word) for w in said.words):
                words = [(letters(w.word), w.start, w.end) for w in said.words]
                return (said.audio * 32767).astype(np.int16), words

    def example(self, seconds: float) -> tuple[np.ndarray, list]:
        """Sentences of the pool one after the other, as many as fit, with pauses: (audio, words)."""
        rng, audio, words = self.rng, np.zeros(round(seconds * RATE), np.float32), []
        clock = rng.uniform(0, 0.3)
        misses = 0
        while misses < 6:
            sound, spoken = rng.choice(self.items)
            start, end = max(0.0, spoken[0][1] - rng.uniform(0, 0.1)), spoken[-1][2]
            if clock + end - start > seconds - 0.02:
                misses += 1
                continue
            i = round(clock * RATE)
            piece = sound[round(start * RATE):].astype(np.float32) * (rng.uniform(0.3, 1.0) / 32768)
            audio[i:i + len(piece)] += piece[:len(audio) - i]
            words += [(w, a - start + clock, b - start + clock) for w, a, b in spoken]
            clock += end - start + rng.uniform(0.1, 0.7)
        return (audio, words) if words else self.example(seconds)

    def batch(self, seconds: float, count: int, fresh: int):
        for _ in range(fresh):
            self.items[self.rng.randrange(len(self.items))] = self.speak()
        made = [self.example(seconds) for _ in range(count)]
        return [augment(a, self.rng) for a, _ in made], [w for _, w in made]


def augment(audio: np.ndarray, rng: random.Random, colour: float = 3.0) -> np.ndarray:
    """Room, telephone or microphone colour, noise and gain; `colour` is how far the spectrum strays, in decibels."""
    numbers = np.random.default_rng(rng.getrandbits(32))
    n = len(audio)
    if rng.random() < 0.6:  # a filter in the frequency domain: tilt, resonances, perhaps a telephone band
        f = np.fft.rfftfreq(n, 1 / RATE)
        decibels = np.interp(f, np.linspace(0, 8000, 9), np.cumsum(numbers.normal(0, colour, 9)))
        if rng.random() < 0.25:
            decibels -= 60 * ((f < rng.uniform(150, 350)) | (f > rng.uniform(3200, 3800)))
        audio = np.fft.irfft(np.fft.rfft(audio) * 10 ** (decibels / 20), n).astype(np.float32)
    if rng.random() < 0.15:  # a small room
        length = int(rng.uniform(0.03, 0.12) * RATE)
        room = numbers.normal(0, 1, length) * np.exp(-np.linspace(0, 6, length)) * rng.uniform(0.05, 0.25)
        room[0] = 1
        size = 1 << (n + length - 1).bit_length()
        audio = np.fft.irfft(np.fft.rfft(audio, size) * np.fft.rfft(room, size), size)[:n].astype(np.float32)
    level = math.sqrt(float(np.mean(audio ** 2)) + 1e-9)
    snr = rng.uniform(10, 30) if rng.random() < 0.4 else rng.uniform(30, 60)
    noise = numbers.normal(0, 1, n).astype(np.float32)
    if rng.random() < 0.5:
        noise[1:] = 0.7 * noise[1:] + 0.7 * noise[:-1]
    audio = audio + noise * (level * 10 ** (-snr / 20))
    return (audio * (10 ** rng.uniform(-1.3, 0.2) / (np.abs(audio).max() + 1e-6))).astype(np.float32)


def targets(words: list, seconds: float, frames: int, even: bool = False) -> tuple[list[int], np.ndarray]:
    """(symbols for CTC, symbol of every frame where it is certain).

    whisperx spreads the frames over the segment's duration, and so does this. `even` also places the inner letters,
    evenly: wrong in detail, but it gets a blank model started.
    """
    per_second = frames / seconds
    symbols, labels = [], np.full(frames, UNKNOWN)
    first = [min(frames - 1, round(a * per_second)) for _, a, _ in words]
    labels[:first[0]] = BLANK
    for i, (word, _, end) in enumerate(words):
        symbols += [*word, SEPARATOR]
        following = first[i + 1] if i + 1 < len(words) else frames
        close = max(first[i] + 1, min(round(end * per_second), following - 1))
        if even and close - first[i] >= len(word):
            labels[first[i]:close] = BLANK
            for k, letter in enumerate(word):
                labels[first[i] + round(k * (close - 1 - first[i]) / max(1, len(word) - 1))] = letter
        labels[first[i]] = word[0]
        if close < frames:
            if len(word) > 1 and close - 1 > first[i]:
                labels[close - 1] = word[-1]
            labels[close:following] = BLANK
            labels[close] = SEPARATOR
            if following - close > 3:  # before a pause, room for punctuation too, which whisperx gives a frame
                labels[close + 1] = SEPARATOR
    return symbols, labels


# --------------------------------------------------------------------------------------------------- model


def new_model() -> Wav2Vec2ForCTC:
    return Wav2Vec2ForCTC(Wav2Vec2Config(
        vocab_size=len(SYMBOLS), pad_token_id=BLANK, bos_token_id=1, eos_token_id=2,
        hidden_size=144, num_hidden_layers=4, num_attention_heads=4, intermediate_size=512,
        conv_dim=(32, 48, 64, 64, 96, 128, 128), conv_kernel=(10, 3, 3, 3, 3, 2, 2), conv_stride=(5, 2, 2, 2, 2, 2, 2),
        feat_extract_norm="group", num_conv_pos_embeddings=32, num_conv_pos_embedding_groups=8,
        hidden_dropout=0.05, attention_dropout=0.0, activation_dropout=0.0, feat_proj_dropout=0.05,
        final_dropout=0.0, layerdrop=0.0, apply_spec_augment=False, ctc_loss_reduction="mean", ctc_zero_infinity=True,
        attn_implementation="sdpa"))


def save(model: Wav2Vec2ForCTC, folder: Path) -> None:
    """The Hugging Face folder that whisperx.load_align_model reads; weights in half precision."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = folder / "vocab.json"
    vocabulary.write_text(json.dumps(INDEX, ensure_ascii=False, indent=0))
    tokenizer = Wav2Vec2CTCTokenizer(str(vocabulary), unk_token="<unk>", pad_token="<pad>", bos_token="<s>",
                                     eos_token="</s>", word_delimiter_token="|", do_lower_case=False)
    extractor = Wav2Vec2FeatureExtractor(feature_size=1, sampling_rate=RATE, padding_value=0.0, do_normalize=False,
                                         return_attention_mask=False)
    Wav2Vec2Processor(extractor, tokenizer).save_pretrained(folder)
    copy = new_model()
    copy.load_state_dict(model.state_dict())
    copy.half().save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config["dtype"] = "float32"  # compute in single precision whatever the file holds
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def train(options: argparse.Namespace) -> None:
    torch.manual_seed(options.seed)
    model = new_model()
    weights = sum(p.numel() for p in model.parameters())
    began, step, done = time.time(), 0, 0.0
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.rate, weight_decay=0.01, betas=(0.9, 0.98))
    checkpoint = options.cache / "align.pt"
    options.cache.mkdir(parents=True, exist_ok=True)
    if options.resume and checkpoint.exists():
        state = torch.load(checkpoint)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        step, done = state["step"], state["seconds"]
    pool = Pool(options.pool, options.seed + step)
    print(f"{weights / 1e6:.2f} M weights, {len(pool.items)} sentences after {time.time() - began:.0f} s", flush=True)
    began = time.time() - done
    budget = options.minutes * 60
    running: list[tuple[float, float]] = []
    saved = time.time()
    model.train()
    while (elapsed := time.time() - began) < budget:
        progress = elapsed / budget
        lr = options.rate * min(1, (step + 1) / 200) * max(0.02, 0.5 + 0.5 * math.cos(math.pi * progress))
        for group in optimizer.param_groups:
            group["lr"] = lr
        seconds = pool.rng.choice((2.5, 3.5) if progress < 0.15 else (2.5, 3.5, 5.0, 5.0, 8.0)
                                  if progress < 0.7 else (2.5, 4.0, 6.0, 8.0, 14.0))
        seconds += pool.rng.uniform(0, 0.1)  # so that the frames meet the sound at every phase
        count = max(2, round(options.seconds_per_batch / seconds))
        sounds, spoken = pool.batch(seconds, count, fresh=options.fresh)
        logits = model(torch.from_numpy(np.stack(sounds))).logits
        frames = logits.shape[1]
        aims = [targets(w, len(sounds[0]) / RATE, frames, even=progress < 0.12) for w in spoken]
        scores = logits.log_softmax(-1)
        ctc = torch.nn.functional.ctc_loss(
            scores.transpose(0, 1), torch.tensor([s for symbols, _ in aims for s in symbols]),
            torch.full((count,), frames), torch.tensor([len(symbols) for symbols, _ in aims]), zero_infinity=True)
        pinned = torch.nn.functional.nll_loss(
            scores.flatten(0, 1), torch.from_numpy(np.concatenate([labels for _, labels in aims])),
            ignore_index=UNKNOWN)
        loss = (ctc if progress > 0.03 else 0) + options.pin * pinned
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        running.append((ctc.item(), pinned.item()))
        if step % 50 == 0:
            a, b = np.mean(running, axis=0)
            running.clear()
            print(f"step {step}  {elapsed / 60:5.1f} min  ctc {a:.3f}  pinned {b:.3f}  lr {lr:.1e}", flush=True)
        if time.time() - saved > 240:
            saved = time.time()
            torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step,
                        "seconds": time.time() - began}, checkpoint)
            save(model, options.out)
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step,
                "seconds": time.time() - began}, checkpoint)
    save(model, options.out)
    print(f"{step} steps, saved {options.out}", flush=True)


# ---------------------------------------------------------------------------------------------- evaluation


def edits(a: list, b: list) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        previous, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (x != y))
    return row[-1]


def boundary_errors(errors: list[tuple[float, float]]) -> dict:
    """Figures for the (start, end) errors of words, in seconds."""
    figures: dict = {"words": len(errors)}
    for name, values in zip(("start", "end"), np.array(errors).T):
        figures[name] = {"median_ms": round(float(np.median(np.abs(values))) * 1000, 1),
                         "p95_ms": round(float(np.percentile(np.abs(values), 95)) * 1000, 1),
                         "bias_ms": round(float(np.median(values)) * 1000, 1),
                         "within_100_ms": round(float(np.mean(np.abs(values) <= 0.1)), 4)}
    return figures


def evaluate(options: argparse.Namespace) -> dict:
    """Greedy recognition, and word boundaries from whisperx itself, on held-out voices and sentences.

    whisperx.align downloads NLTK's punkt_tab where it is not installed.
    """
    import whisperx

    processor = Wav2Vec2Processor.from_pretrained(options.out)
    metrics: dict = {"weights": None, "bytes": sum(f.stat().st_size for f in options.out.iterdir()
                                                   if f.name != "METRICS.json")}
    for language in ("en", "es"):
        model, metadata = whisperx.load_align_model(language, "cpu", model_name=str(options.out))
        metrics["weights"] = sum(p.numel() for p in model.parameters())
        rng = random.Random(options.seed + 10_000)
        wrong = {"character": [0, 0], "word": [0, 0]}
        short: list[tuple[float, float]] = []
        whole: list[tuple[float, float]] = []
        spoken = spent = 0.0
        for _ in range(options.conversations):
            sentences = [grammar.sentence(rng)[language == "es"] for _ in range(8)]
            made = conversation.converse(sentences, conversation.cast(rng, 2, True, language), rng.getrandbits(20),
                                         language)
            audio = made.audio * np.float32(10 ** rng.uniform(-1.5, 0))  # whisperx passes sound as loud as it is
            # As after transcription: segments of one or two sentences with a little silence around; and all in one.
            segments, i = [], 0
            while i < len(made.sentences):
                j = min(len(made.sentences), i + rng.choice((1, 2)))
                segments.append({"text": " ".join(t.text for t in made.sentences[i:j]),
                                 "start": max(0, made.sentences[i].start - rng.uniform(0.05, 0.25)),
                                 "end": made.sentences[j - 1].end + rng.uniform(0.05, 0.2)})
                i = j
            everything = [{"text": " ".join(t.text for t in made.sentences), "start": 0.0,
                           "end": len(audio) / RATE}]
            for chosen, errors in ((segments, short), (everything, whole)):
                began = time.time()
                aligned = whisperx.align(chosen, model, metadata, audio, "cpu")["word_segments"]
                spent += time.time() - began
                spoken += sum(s["end"] - s["start"] for s in chosen)
                assert len(aligned) == len(made.words), (len(aligned), len(made.words))
                errors += [(a["start"] - b.start, a["end"] - b.end) for a, b in zip(aligned, made.words)]
            for turn in made.sentences:
                sound = audio[int(max(0, turn.start - 0.1) * RATE):int((turn.end + 0.1) * RATE)]
                with torch.inference_mode():
                    heard = processor.batch_decode(model(torch.from_numpy(sound)[None]).logits.argmax(-1))[0].strip()
                said = " ".join(w.lower() for _, _, w in conversation.tokens(turn.text))
                for kind, a, b in (("character", list(said), list(heard)), ("word", said.split(), heard.split())):
                    wrong[kind][0] += edits(a, b)
                    wrong[kind][1] += len(a)
        metrics[language] = {"greedy_cer": round(wrong["character"][0] / wrong["character"][1], 4),
                             "greedy_wer": round(wrong["word"][0] / wrong["word"][1], 4),
                             "sentence_segments": boundary_errors(short),
                             "one_segment_of_about_25_s": boundary_errors(whole),
                             "speed": f"{spoken / spent:.0f} x real time, 1 thread"}
    metrics["real_sample"] = real_sample(options)
    return metrics


def real_sample(options: argparse.Namespace) -> dict:
    """Sentence starts and ends in the only real recording at hand, pyannote's 30 s of two women on the telephone."""
    import importlib.util
    import wave

    import whisperx

    folder = Path(importlib.util.find_spec("pyannote.audio").submodule_search_locations[0]) / "sample"
    with wave.open(str(folder / "sample.wav")) as f:
        audio = np.frombuffer(f.readframes(f.getnframes()), "<i2").astype(np.float32) / 32768
    sentences = [line.split(maxsplit=5) for line in (folder / "sample.stm").read_text().splitlines()]
    times = [(float(s[3]), float(s[4]), s[5]) for s in sentences]
    # everything as one segment, so that the model has to find the sentences
    segment = {"text": " ".join(t for _, _, t in times), "start": times[0][0] - 0.5, "end": len(audio) / RATE}
    model, metadata = whisperx.load_align_model("en", "cpu", model_name=str(options.out))
    words = whisperx.align([segment], model, metadata, audio, "cpu")["word_segments"]
    errors, i = [], 0
    for start, end, text in times:
        count = len(text.split())
        errors.append((words[i]["start"] - start, words[i + count - 1]["end"] - end))
        i += count
    figures = boundary_errors(errors)
    figures["sentences"] = figures.pop("words")
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE / "align")
    parser.add_argument("--cache", type=Path, default=Path("cache"), help="for the training checkpoint")
    parser.add_argument("--evaluate", action="store_true", help="measure the model in --out instead of training")
    parser.add_argument("--minutes", type=float, default=40)
    parser.add_argument("--rate", type=float, default=1e-3, help="learning rate")
    parser.add_argument("--pin", type=float, default=1.0, help="weight of the loss on the frames known")
    parser.add_argument("--pool", type=int, default=3000, help="sentences kept in memory")
    parser.add_argument("--fresh", type=int, default=3, help="sentences replaced before every batch")
    parser.add_argument("--seconds-per-batch", type=float, default=48)
    parser.add_argument("--conversations", type=int, default=20, help="for --evaluate, per language")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.evaluate:
        metrics = evaluate(options)
        (options.out / "METRICS.json").write_text(json.dumps(metrics, indent=2) + "\n")
        print(json.dumps(metrics, indent=2))
    else:
        train(options)


if __name__ == "__main__":
    main()
