"""`whisperx-asr health`: does a running service answer?"""

from __future__ import annotations

import argparse
import sys

from app.config.server import ServerSettings
from app.config.settings import load_settings
from app.serving.sockets import address_of

# how to reach a service that listens on all addresses
LOOPBACKS = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def run(options: argparse.Namespace) -> int:
    import httpx

    url = options.url or _own_url(load_settings())
    try:
        response = httpx.get(f"{url}/health", timeout=5)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        print(f"whisperx-asr: {url} does not answer: {error}", file=sys.stderr)
        return 1
    print(response.text)
    return 0 if response.status_code == 200 else 1


def _own_url(settings: ServerSettings) -> str:
    host = LOOPBACKS.get(settings.host, settings.host)
    return f"http://{address_of(host, settings.port)}"
