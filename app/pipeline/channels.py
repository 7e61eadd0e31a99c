"""Transcribes a call with one party per channel and merges the channels into one transcript."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from app.domain.options import TranscribeOptions
from app.domain.transcript import Audio, Segment, Transcript
from app.pipeline.flow import NOBODY, Listener

# A channel with less speech than this is too short to disagree with the others on the language.
SHORT_S = 15.0

Transcribe = Callable[[Audio, TranscribeOptions, Listener], Transcript]


def transcribe_channels(
    transcribe: Transcribe,
    channels: Sequence[Audio],
    options: TranscribeOptions,
    listener: Listener = NOBODY,
) -> Transcript:
    """The transcript of all channels, which are transcribed one by one. The listener gets the text
    at once and the segments at the end.
    """
    options = replace(options, diarize=False, must_diarize=False)
    transcripts = [
        transcribe(audio, options, _labelling(listener, i)) for i, audio in enumerate(channels)
    ]
    if options.language is None and not options.multilingual:
        certain = replace(options, language=_main_language(transcripts))
        for i, transcript in enumerate(transcripts):
            if _spoken_s(transcript) < SHORT_S and _contradicts(transcript, certain.language):
                transcripts[i] = transcribe(channels[i], certain, NOBODY)
    merged = merge_channels(transcripts)
    for segment in merged.segments:
        listener.settled(segment)
    return merged


def merge_channels(transcripts: Sequence[Transcript]) -> Transcript:
    """One transcript, ordered by time. The first channel is SPEAKER_00, even if another begins."""
    segments = [
        label_segment(segment, i)
        for i, transcript in enumerate(transcripts)
        for segment in transcript.segments
    ]
    return replace(
        transcripts[0],
        language=_main_language(transcripts),
        duration_s=max(transcript.duration_s for transcript in transcripts),
        segments=tuple(sorted(segments, key=lambda segment: segment.start_s)),
        speakers_known=True,
        speaker_embeddings={},
        warnings=tuple(dict.fromkeys(text for t in transcripts for text in t.warnings)),
    )


def label_segment(segment: Segment, channel: int) -> Segment:
    speaker = f"SPEAKER_{channel:02d}"
    words = segment.words and tuple(replace(word, speaker=speaker) for word in segment.words)
    return replace(segment, speaker=speaker, words=words)


def _labelling(listener: Listener, channel: int) -> Listener:
    return Listener(lambda segment: listener.recognized(label_segment(segment, channel)))


def _spoken_s(transcript: Transcript) -> float:
    return sum(segment.end_s - segment.start_s for segment in transcript.segments)


def _contradicts(transcript: Transcript, language: str | None) -> bool:
    return bool(transcript.segments) and transcript.language != language


def _main_language(transcripts: Sequence[Transcript]) -> str:
    """The language of most of the speech, or of the first channel if nobody speaks."""
    spoken: dict[str, float] = {}
    for transcript in transcripts:
        language = transcript.language
        spoken[language] = spoken.get(language, 0.0) + _spoken_s(transcript)
    return max(spoken, key=lambda language: spoken[language])
