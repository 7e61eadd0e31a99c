"""Stages that a transcript can do without, and the sentences that say so."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from app.audio.decode import BREAKS_OFF, ONE_CHANNEL, OTHER_TRACKS, SAME_CHANNELS
from app.domain.errors import ModelUnavailable, ServiceError, StageFailed

log = logging.getLogger(__name__)

# Fixed ASCII sentences: they travel in a header.
NO_DIARIZATION = (
    "Speakers are missing: the diarization model is not available. "
    "Accept its licence on the hub and set HF_TOKEN, or set DIARIZATION_MODEL."
)
DIARIZATION_FAILED = "Speakers are missing: diarization failed on this recording."
NO_ALIGNER = "Words have no times: there is no alignment model for this language."
ALIGNER_UNAVAILABLE = "Words have no times: the alignment model could not be loaded."
APPROXIMATE_NO_ALIGNER = (
    "Word times are approximate: there is no alignment model for this language."
)
APPROXIMATE_UNAVAILABLE = "Word times are approximate: the alignment model could not be loaded."
APPROXIMATE_TRANSLATION = "Word times are approximate: a translation is not what was spoken."
APPROXIMATE_CHOSEN = "Word times are approximate: they are those of Whisper's cross-attention."
NO_WORD_TIMES = "Words have no times: this conversion of the model cannot tell them."
ALIGNMENT_FAILED = "Some words have no times: alignment failed on this recording."
WARNING_KINDS = {
    NO_DIARIZATION: "no_diarization_model",
    DIARIZATION_FAILED: "diarization_failed",
    NO_ALIGNER: "no_alignment_model",
    ALIGNER_UNAVAILABLE: "alignment_model_unavailable",
    APPROXIMATE_NO_ALIGNER: "no_alignment_model",
    APPROXIMATE_UNAVAILABLE: "alignment_model_unavailable",
    APPROXIMATE_TRANSLATION: "translated_words",
    APPROXIMATE_CHOSEN: "no_alignment_model",
    NO_WORD_TIMES: "no_word_times",
    ALIGNMENT_FAILED: "alignment_failed",
    BREAKS_OFF: "file_breaks_off",
    OTHER_TRACKS: "other_audio_tracks",
    ONE_CHANNEL: "one_channel",
    SAME_CHANNELS: "same_channels",
}


@contextmanager
def optional_stage(
    unavailable: str, failed: str, warnings: list[str], must: bool
) -> Iterator[None]:
    """A stage that must not cost its user the transcript: what breaks in it is a warning. Where it
    `must` be, it is an error all the same.
    """
    try:
        yield
    except ModelUnavailable as error:
        if must:
            raise ModelUnavailable(unavailable, error.retry_after_s) from error
        log.info("%s %s", unavailable, error)  # the store logs what went wrong, once
        warnings.append(unavailable)
    except StageFailed:
        _warn(failed, warnings, must)
    except ServiceError:
        raise  # cancelled, out of time, shutting down: the request ends
    # The optional stage's boundary: a library's fault on this recording.
    except Exception:  # noqa: BLE001
        _warn(failed, warnings, must)


def _warn(warning: str, warnings: list[str], must: bool) -> None:
    log.exception(warning)
    if must:
        raise StageFailed(warning)
    warnings.append(warning)
