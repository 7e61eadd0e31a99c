"""What Schemathesis is told about this API; loaded by it, see tests/service/test_api_fuzz.py."""

from __future__ import annotations

import atexit
import json
import os
from base64 import b64encode
from collections import Counter
from itertools import count, cycle
from pathlib import Path
from typing import Any

import schemathesis

from tests.support.corpus import mutants, originals

FILE_FIELDS = ("audio_file", "file", "input_audio")
# What a form with speech must not get wrong, since nothing is heard of it then.
STRICT_FIELDS = (
    "model", "languages[]", "timestamp_granularities[]", "include[]", "chunking_strategy",
    "known_speaker_names[]", "known_speaker_references[]", "temperature", "stream", "diarize",
    "min_speakers", "max_speakers", "vad_onset", "vad_offset", "condition_on_previous_text",
)  # fmt: skip

_numbers = count()
_clips = cycle(originals()[kind] for kind in ("amr", "ogg opus", "mp3"))
_damaged = cycle(mutant.content for mutant in mutants(300) if len(mutant.content) < 10_000)
_languages = cycle(("en", "Spanish", "auto", ""))
_answers: Counter[str] = Counter()


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: schemathesis.Case, kwargs: Any) -> None:
    """One form of four carries speech, and names of its model and language that exist; another
    carries a damaged file. Of random bytes and words, nothing would get beyond the refusals."""
    if not isinstance(case.body, dict):
        return
    field = next((name for name in FILE_FIELDS if name in case.body), None)
    if field is None:
        return
    number = next(_numbers) % 4
    if number == 0:
        case.body[field] = _written(field, next(_clips))
        for fields in (case.query, case.body):
            if isinstance(fields, dict):
                for name in STRICT_FIELDS:
                    fields.pop(name, None)
                    fields.pop(name.removesuffix("[]"), None)
                if "language" in fields:
                    fields["language"] = next(_languages)
    elif number == 1:
        case.body[field] = _written(field, next(_damaged))


def _written(field: str, content: bytes) -> Any:
    """As a form has it, or a JSON body."""
    return {"data": b64encode(content).decode()} if field == "input_audio" else content


@schemathesis.hook
def after_call(
    context: schemathesis.HookContext, case: schemathesis.Case, response: schemathesis.Response
) -> None:
    _answers[f"{case.operation.label} {response.status_code}"] += 1


@atexit.register
def _report() -> None:
    Path(os.environ["FUZZ_REPORT"]).write_text(json.dumps(_answers))
