"""Warnings about what a transcript lacks or what in it is uncertain."""

from __future__ import annotations

from enum import Enum


class TranscriptWarning(Enum):
    """`kind` labels metrics; `sentence` is for people, in fixed ASCII because a header carries it.

    Several warnings may share one kind.
    """

    NO_DIARIZATION = (
        "no_diarization_model",
        "Speakers are missing: the diarization model is not available. "
        "Accept its license on the hub and set HF_TOKEN, or set DIARIZATION_MODEL.",
    )
    DIARIZATION_FAILED = (
        "diarization_failed",
        "Speakers are missing: diarization failed on this recording.",
    )
    NO_ALIGNER = (
        "no_alignment_model",
        "Words have no times: there is no alignment model for this language.",
    )
    ALIGNER_UNAVAILABLE = (
        "alignment_model_unavailable",
        "Words have no times: the alignment model could not be loaded.",
    )
    APPROXIMATE_NO_ALIGNER = (
        "no_alignment_model",
        "Word times are approximate: there is no alignment model for this language.",
    )
    APPROXIMATE_UNAVAILABLE = (
        "alignment_model_unavailable",
        "Word times are approximate: the alignment model could not be loaded.",
    )
    APPROXIMATE_TRANSLATION = (
        "translated_words",
        "Word times are approximate: a translation is not what was spoken.",
    )
    APPROXIMATE_CHOSEN = (
        "no_alignment_model",
        "Word times are approximate: they are those of Whisper's cross-attention.",
    )
    NO_WORD_TIMES = (
        "no_word_times",
        "Words have no times: this conversion of the model cannot compute them.",
    )
    ALIGNMENT_FAILED = (
        "alignment_failed",
        "Some words have no times: alignment failed on this recording.",
    )
    BREAKS_OFF = (
        "file_breaks_off",
        "The file is damaged or breaks off: it was transcribed as far as it could be decoded.",
    )
    OTHER_TRACKS = (
        "other_audio_tracks",
        "The file has several audio tracks with sound: one was transcribed. "
        "Choose another with audio_track.",
    )
    ONE_CHANNEL = (
        "one_channel",
        "The recording has one channel: all of it was transcribed as one speaker.",
    )
    SAME_CHANNELS = (
        "same_channels",
        "All channels carry the same sound: they were transcribed as one speaker.",
    )

    def __init__(self, kind: str, sentence: str) -> None:
        self.kind = kind
        self.sentence = sentence
