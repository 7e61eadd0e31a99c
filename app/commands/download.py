"""`whisperx-asr download`: models for machines that will have no internet."""

from __future__ import annotations

import argparse
import sys

from app.config.settings import load_settings
from app.domain.errors import ConfigurationError, ServiceError


def run(options: argparse.Namespace) -> int:
    settings = load_settings()
    from app.service.build import build_service, close_service
    from app.service.warmup import download_models

    languages = [code for code in options.align.replace(",", " ").split() if code]
    if not (options.models or languages or options.diarization):
        raise ConfigurationError("Nothing to download: give a model, --align or --diarization.")
    service = build_service(settings)
    try:
        for line in download_models(service, options.models, languages, options.diarization):
            print(line, flush=True)
    except ServiceError as error:
        print(f"whisperx-asr: {error}", file=sys.stderr)
        return 1
    finally:
        close_service(service)
    return 0
