"""Stages that a transcript can do without."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from app.domain.errors import ModelUnavailable, ServiceError, StageFailed
from app.domain.warnings import TranscriptWarning

log = logging.getLogger(__name__)


@contextmanager
def optional_stage(
    unavailable: TranscriptWarning,
    failed: TranscriptWarning,
    warnings: list[TranscriptWarning],
    must: bool,
) -> Iterator[None]:
    """A stage whose failure must not cost the user the transcript: it becomes a warning, or an
    error if the stage `must` succeed.
    """
    try:
        yield
    except ModelUnavailable as error:
        if error.ends_request:  # another stage's, which must succeed
            raise
        if must:
            raise ModelUnavailable(unavailable.sentence, error.retry_after_s) from error
        log.info("%s %s", unavailable.sentence, error)  # the store logs what went wrong, once
        warnings.append(unavailable)
    except StageFailed:
        _warn(failed, warnings, must)
    except ServiceError:
        raise  # cancelled, out of time, shutting down: the request ends
    # The boundary of the optional stage: a library failed on this recording.
    except Exception:  # noqa: BLE001
        _warn(failed, warnings, must)


def _warn(warning: TranscriptWarning, warnings: list[TranscriptWarning], must: bool) -> None:
    log.exception(warning.sentence)
    if must:
        raise StageFailed(warning.sentence)
    warnings.append(warning)
