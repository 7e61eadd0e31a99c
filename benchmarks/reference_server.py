"""The reference behind HTTP, so that both sides pay for it: an endpoint, a lock, the libraries.

`python -m benchmarks.reference_server --port 9100`. Reads its settings from the environment, as the
service does.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from pathlib import Path
from typing import Annotated, Any

import uvicorn
from fastapi import FastAPI, Form, UploadFile

from benchmarks.setup import apply_settings


def create_app() -> FastAPI:
    settings = apply_settings(None)
    from benchmarks.reference import Reference  # the libraries read the environment that is set now

    reference = Reference(settings)
    app = FastAPI()

    @app.get("/ready")
    def ready() -> dict[str, bool]:
        return {"ready": True}

    @app.post("/asr")
    def asr(audio_file: UploadFile, diarize: Annotated[bool, Form()] = False) -> dict[str, Any]:
        """Runs in FastAPI's thread pool, so that /ready is answered at the same time."""
        with tempfile.NamedTemporaryFile() as file:
            while block := audio_file.file.read(1 << 20):
                file.write(block)
            file.flush()
            aligned = reference.transcribe(Path(file.name), diarize)
        return {"segments": _plain(aligned["segments"])}

    return app


def _plain(value: Any) -> Any:
    """NumPy's numbers as JSON numbers; NaN and infinity become null."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if isinstance(value, str) or value is None:
        return value
    number = float(value)
    return number if math.isfinite(number) else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    uvicorn.run(create_app(), host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    main()
