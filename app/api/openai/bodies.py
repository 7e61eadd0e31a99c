"""The JSON bodies of /v1."""

from __future__ import annotations

from pydantic import BaseModel, Field


class OpenAIErrorDetail(BaseModel):
    message: str = Field(description="One clear sentence.")
    type: str = Field(examples=["invalid_request_error"])
    param: str | None = Field(description="The parameter that is at fault.")
    code: str | None = Field(description="Machine readable.")


class OpenAIErrorBody(BaseModel):
    error: OpenAIErrorDetail


class ModelBody(BaseModel):
    id: str = Field(examples=["large-v3"])
    object: str = "model"
    created: int = 0
    owned_by: str
    loaded: bool


class ModelListBody(BaseModel):
    object: str = "list"
    data: list[ModelBody]
