"""Plays recordings to /stream at real time, from a process of its own.

`python -m benchmarks.live_player URL FILE.npy ... [--beside AUDIO]`: a stream for each file of
float32 samples at 16 kHz, all at once; meanwhile AUDIO is sent to /asr. Prints one JSON object for
each stream: `messages` with the seconds since the stream's first sample was spoken, `code` of the
close, `behind_s` of its own clock at worst.

Sound is sent when it has been spoken: a piece goes out at its end, by an absolute clock, so that a
server that takes it late gains nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

SAMPLE_RATE = 16_000
PIECE = SAMPLE_RATE // 10
STAGGER_S = 0.37  # speakers do not begin at the same moment
HEAD_START_S = 5.0  # of the file beside
FINISH_S = 90.0  # for the rest, after the last sound
CONFIG = {"sample_rate": SAMPLE_RATE, "language": "en", "chunk_duration": 60, "events": True}


async def play(url: str, path: Path, delay_s: float) -> dict[str, Any]:
    """What one stream is told."""
    told: dict[str, Any] = {"name": path.stem, "messages": [], "code": None, "behind_s": 0.0}
    await asyncio.sleep(delay_s)
    try:
        async with connect(url, compression=None, max_size=None, open_timeout=60) as socket:
            await socket.send(json.dumps(CONFIG))
            begun = time.monotonic()
            listening = asyncio.create_task(_listen(socket, begun, told))
            with suppress(ConnectionClosed):
                await _speak(socket, np.load(path), begun, told)
            await asyncio.wait({listening}, timeout=FINISH_S)
            listening.cancel()
            told["code"] = socket.close_code
    except (OSError, InvalidHandshake, TimeoutError) as error:
        told["error"] = repr(error)
    return told


async def _speak(
    socket: ClientConnection, samples: Any, begun: float, told: dict[str, Any]
) -> None:
    for at in range(0, len(samples), PIECE):
        piece = samples[at : at + PIECE]
        due = begun + (at + len(piece)) / SAMPLE_RATE
        await asyncio.sleep(due - time.monotonic())
        told["behind_s"] = max(told["behind_s"], time.monotonic() - due)
        await socket.send(piece.astype("<f4").tobytes())
    await socket.send(json.dumps({"command": "end"}))


async def _listen(socket: ClientConnection, begun: float, told: dict[str, Any]) -> None:
    async for text in socket:
        told["messages"].append([round(time.monotonic() - begun, 3), json.loads(text)])


async def _beside(url: str, audio: bytes) -> None:
    """Have a file transcribed until the task is cancelled."""
    async with httpx.AsyncClient(timeout=None) as client:
        files = {"audio_file": ("long.flac", audio)}
        await client.post(f"{url}/asr", files=files, data={"language": "en"})


async def main(url: str, paths: list[Path], beside: bytes | None) -> None:
    long = None
    if beside is not None:
        long = asyncio.create_task(_beside(url, beside))
        await asyncio.sleep(HEAD_START_S)
    address = url.replace("http", "ws", 1) + "/stream"
    playing = [play(address, path, i * STAGGER_S % 1.0) for i, path in enumerate(paths)]
    streams = await asyncio.gather(*playing)
    ended_early = long is not None and long.done()
    if long is not None:
        long.cancel()
        await asyncio.wait({long})
    for told in streams:
        print(json.dumps({**told, "alone": long is None or ended_early}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--beside", type=Path)
    options = parser.parse_args()
    beside = options.beside.read_bytes() if options.beside else None
    asyncio.run(main(options.url, options.files, beside))
