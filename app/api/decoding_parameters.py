"""Parameters that both contracts share: how speech is found, decoded and divided among speakers."""

from __future__ import annotations

from app.api.parameters import Reader, not_allowed
from app.domain.errors import UnsupportedOption
from app.domain.languages import is_unset
from app.domain.options import SpeakerBounds, SpeechDetection

MAX_BEAM_SIZE = 10  # the work and the memory of a request grow with it
MAX_TEMPERATURE = 1
SCORE_LIMITS = (0.01, 0.99)
MAX_TRACK_LENGTH = 40
SPEAKERS = {name: name for name in ("voices", "channels")}
SPEAKER_COUNTS = ("num_speakers", "min_speakers", "max_speakers")


def read_temperature(read: Reader) -> float:
    return read.number("temperature", 0, MAX_TEMPERATURE, 0)


def read_beam_size(read: Reader) -> int | None:
    """None if the request names none."""
    return read.count("beam_size", MAX_BEAM_SIZE)


def read_speech_detection(read: Reader) -> SpeechDetection:
    """Raises UnsupportedOption for scores out of range, or in the wrong order."""
    onset, offset = _score(read, "vad_onset"), _score(read, "vad_offset")
    if onset is not None and offset is not None and offset > onset:
        raise UnsupportedOption(
            f"vad_offset: {offset:g} is not allowed; it must not exceed vad_onset, which is "
            f"{onset:g}."
        )
    return SpeechDetection(onset, offset, keep_silence=not read.flag("vad_filter", True))


def _score(read: Reader, name: str) -> float | None:
    return read.number(name, *SCORE_LIMITS, 0.5) if read.text(name) else None


def refuse_conditioning(read: Reader) -> None:
    """Raises UnsupportedOption if a chunk is to be decoded with the text of the one before."""
    if read.flag("condition_on_previous_text", False):
        raise UnsupportedOption(
            "condition_on_previous_text: true is not supported, as chunks are decoded side by "
            "side; send initial_prompt (/v1: prompt) for names and style."
        )


def wants_usual_language(read: Reader) -> bool:
    """Whether the operator's language applies: the request leaves it open."""
    return is_unset(read.text("language"))


def read_speaker_bounds(read: Reader) -> SpeakerBounds:
    """Raises UnsupportedOption for counts out of range, or in the wrong order."""
    num_speakers = read.count("num_speakers")
    if num_speakers is not None:  # the other two are ignored
        return SpeakerBounds(num_speakers=num_speakers)
    least, most = read.count("min_speakers"), read.count("max_speakers")
    if least is not None and most is not None and least > most:
        raise UnsupportedOption(
            f"min_speakers: {least} is not allowed; it must not exceed max_speakers, "
            f"which is {most}."
        )
    return SpeakerBounds(min_speakers=least, max_speakers=most)


def read_audio_track(read: Reader) -> str:
    """The track as written; whether it exists is known once the file is opened."""
    value = read.text("audio_track")
    if len(value) > MAX_TRACK_LENGTH:
        raise not_allowed("audio_track", value, "an index from 0 or a language, such as 1 or fre")
    return value


def read_by_channel(read: Reader) -> bool:
    """Whether each channel is a speaker. Raises UnsupportedOption beside counts of speakers."""
    by_channel = read.choice("speakers", SPEAKERS, "voices") == "channels"
    if by_channel:
        for name in SPEAKER_COUNTS:
            if read.text(name):
                raise UnsupportedOption(
                    f"{name}: not allowed with speakers=channels; each channel is one speaker."
                )
    return by_channel
