"""The OpenAPI schema: equal to the committed copy, and nothing in it that Swagger UI would send.

`python -m tests.service.test_openapi` writes the copy anew.
"""

from __future__ import annotations

import difflib
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from app.api.asr.parameters import OUTPUTS
from app.api.asr.schema import AsrParameters, DetectParameters
from app.api.parameters import FALSE, TRUE
from tests.support.paths import ROOT
from tests.support.server import Server, running_server
from tests.support.truth import audio_of

COPY = ROOT / "tests" / "openapi.json"
REGENERATE = (
    "If the change is meant: `.venv/bin/python -m tests.service.test_openapi` and commit it."
)
ENDPOINTS = {"/asr": AsrParameters, "/detect-language": DetectParameters}
PREFILLED = {"default", "example", "examples", "const"}


@pytest.fixture(scope="module")
def schema(server: Server) -> dict[str, Any]:
    found: dict[str, Any] = server.get("/openapi.json").json()
    return found


def as_text(schema: dict[str, Any]) -> str:
    # the version changes with every release
    schema = {**schema, "info": {**schema["info"], "version": "0"}}
    return json.dumps(schema, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def test_the_committed_copy_is_what_the_service_says(schema: dict[str, Any]) -> None:
    expected, found = COPY.read_text(encoding="utf-8"), as_text(schema)
    names = (str(COPY.name), "the service")
    changes = difflib.unified_diff(expected.splitlines(), found.splitlines(), *names, lineterm="")
    assert expected == found, "\n".join(["The API has changed:", *changes, REGENERATE])


def parameters_of(schema: dict[str, Any], path: str) -> dict[str, dict[str, Any]]:
    return {item["name"]: item for item in schema["paths"][path]["post"]["parameters"]}


@pytest.mark.parametrize("path", ENDPOINTS)
def test_swagger_sends_nothing_unasked(schema: dict[str, Any], path: str) -> None:
    for item in parameters_of(schema, path).values():
        assert item["in"] == "query"
        assert item["required"] is False
        assert not PREFILLED & item.keys()
        assert not PREFILLED & item["schema"].keys()
        assert "anyOf" not in item["schema"]
    form = schema["paths"][path]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert form["required"] == ["audio_file"]
    assert form["properties"].keys() == {"audio_file"}
    assert not PREFILLED & form["properties"]["audio_file"].keys()


@pytest.mark.parametrize("path", ENDPOINTS)
def test_every_parameter_says_its_default_and_an_example(schema: dict[str, Any], path: str) -> None:
    parameters = parameters_of(schema, path)
    assert parameters.keys() == ENDPOINTS[path].model_fields.keys()
    for item in parameters.values():
        assert " Default: " in item["description"]
        assert " Example: `" in item["description"]
        assert len(item["description"]) > 30


def test_the_parameters_are_those_of_the_contract(schema: dict[str, Any]) -> None:
    assert parameters_of(schema, "/asr").keys() == {
        "output",
        "output_format",
        "task",
        "language",
        "multilingual",
        "initial_prompt",
        "hotwords",
        "model",
        "encode",
        "vad_filter",
        "stream",
        "word_timestamps",
        "diarize",
        "enable_diarization",
        "speakers",
        "audio_track",
        "num_speakers",
        "min_speakers",
        "max_speakers",
        "return_speaker_embeddings",
        "subtitle_style",
        "max_line_width",
        "max_line_count",
        "highlight_words",
        "beam_size",
        "temperature",
        "vad_onset",
        "vad_offset",
        "condition_on_previous_text",
    }


@pytest.mark.parametrize("name", ["output", "output_format", "task", "speakers", "subtitle_style"])
def test_choices_are_those_that_are_accepted(
    server: Server, schema: dict[str, Any], name: str
) -> None:
    choices = parameters_of(schema, "/asr")[name]["schema"]["enum"]
    detail = server.post(audio_of("en_short"), **{name: "nonsense"}).json()["detail"]
    assert detail.split("one of ")[1] == f"{', '.join(choices)}."


def test_what_the_types_allow_is_accepted(server: Server, schema: dict[str, Any]) -> None:
    parameters = parameters_of(schema, "/asr")
    silence = bytes(3200)
    for name in ("num_speakers", "beam_size", "temperature", "vad_onset"):
        least, most = (parameters[name]["schema"][key] for key in ("minimum", "maximum"))
        for bound, status in ((least, 200), (most, 200), (least - 1, 422), (most + 1, 422)):
            response = server.post(silence, encode=False, **{name: bound})
            assert response.status_code == status, name
    assert {"true", "false"} <= TRUE | FALSE
    assert set(parameters["output"]["schema"]["enum"]) == OUTPUTS.keys()


@pytest.mark.parametrize("path", ENDPOINTS)
def test_every_status_is_documented(schema: dict[str, Any], path: str) -> None:
    responses = schema["paths"][path]["post"]["responses"]
    errors = {"400", "401", "408", "410", "413", "415", "422", "429", "500", "503", "504", "507"}
    assert responses.keys() == {"200"} | errors
    for status, response in responses.items():
        assert response["description"]
        body = response["content"]["application/json"]
        if status != "200":
            assert body["schema"] == {"$ref": "#/components/schemas/ErrorBody"}
            assert body["example"].keys() == {"detail"}
    assert "Retry-After" in responses["503"]["headers"]
    assert {"Retry-After", "RateLimit-Remaining"} <= responses["429"]["headers"].keys()
    assert "WWW-Authenticate" in responses["401"]["headers"]


def test_the_answers_are_documented(schema: dict[str, Any]) -> None:
    success = schema["paths"]["/asr"]["post"]["responses"]["200"]
    assert success["content"].keys() == {"application/json", "text/plain", "text/event-stream"}
    assert success["headers"].keys() == {
        "Asr-Engine",
        "Content-Disposition",
        "X-ASR-Ignored",
        "X-ASR-Warning",
    }
    assert schema["openapi"].startswith("3.1.")


def regenerate() -> None:
    with TemporaryDirectory() as folder, running_server(Path(folder)) as server:
        COPY.write_text(as_text(server.get("/openapi.json").json()), encoding="utf-8")
    print(f"wrote {COPY}", file=sys.stderr)


if __name__ == "__main__":
    regenerate()
