"""The JSON bodies of /health, /status, /ready and /queue."""

from __future__ import annotations

from pydantic import BaseModel, Field


class HealthBody(BaseModel):
    status: str = Field(description="healthy or unhealthy.", examples=["healthy"])
    device: str = Field(examples=["cuda"])
    compute_type: str = Field(examples=["float16"])
    version: str
    default_model: str = Field(examples=["large-v3"])
    loaded_models: list[str] = Field(description="Names of recognizers.", examples=[["large-v3"]])
    requests: int = Field(description="Requests that are being served.", examples=[0])
    degraded: list[str] = Field(
        description="What does not work at present, in sentences; the rest does.", examples=[[]]
    )


class StatusBody(BaseModel):
    version: str


class ReadyBody(BaseModel):
    status: str = Field(examples=["ready"])


class QueueEntryBody(BaseModel):
    """A request that is under way; never its content."""

    id: str = Field(description="The request's X-Request-ID.")
    client: str | None = Field(description="The name of its API key, null where there are none.")
    kind: str = Field(examples=["transcription"])
    state: str = Field(description="waiting (upload, decoding) or running.")
    model: str
    audio_seconds: float | None = Field(description="Known once the upload is decoded.")
    progress: float = Field(description="0 to 1, an estimate.")
    elapsed_seconds: float
    seconds_left: float | None = Field(description="An estimate, null while there is none.")


class QueueBody(BaseModel):
    requests: list[QueueEntryBody]
