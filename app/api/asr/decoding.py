"""What /docs says about the parameters of decoding. Data only."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query
from pydantic import BaseModel, WithJsonSchema

from app.api.decoding_parameters import MAX_BEAM_SIZE, MAX_TEMPERATURE, SCORE_LIMITS

Text = str | None
BOOLEAN = WithJsonSchema({"type": "boolean"})
BEAM_SIZE = WithJsonSchema({"type": "integer", "minimum": 1, "maximum": MAX_BEAM_SIZE})
TEMPERATURE = WithJsonSchema({"type": "number", "minimum": 0, "maximum": MAX_TEMPERATURE})
SCORE = WithJsonSchema({"type": "number", "minimum": SCORE_LIMITS[0], "maximum": SCORE_LIMITS[1]})


def about(text: str, default: str, example: str) -> Any:
    """The description of a query parameter."""
    return Query(description=f"{text} Default: {default}. Example: `{example}`.")


class DecodingParameters(BaseModel):
    """How speech is found and decoded."""

    vad_onset: Annotated[
        Text, SCORE, about("Score above which speech begins.", "the service's own", "0.4")
    ] = None
    vad_offset: Annotated[
        Text, SCORE, about("Score below which speech ends.", "the service's own", "0.3")
    ] = None
    beam_size: Annotated[
        Text, BEAM_SIZE, about("Width of the beam search.", "the service's own", "1")
    ] = None
    temperature: Annotated[
        Text,
        TEMPERATURE,
        about("Above 0: decode at this temperature only.", "`0`: rise where decoding fails", "0"),
    ] = None
    condition_on_previous_text: Annotated[
        Text,
        BOOLEAN,
        about("Only `false`: chunks are decoded side by side.", "`false`", "false"),
    ] = None
