"""LiveKit Agents' own STT class against the service. Prints what it tells, one JSON object a line.

python livekit_client.py BASE_URL KEY OPTIONS WORDS < PCM
OPTIONS: of the STT class, JSON. WORDS: of all transcripts; it waits for so many.
PCM: 16-bit, 24 kHz, one channel; it is sent in real time.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

from livekit import rtc
from livekit.agents import stt
from livekit.agents.utils import http_context
from livekit.plugins import openai

RATE = 24_000
FRAME_SAMPLES = RATE // 50
WAIT_S = 120.0


async def speak(stream: Any, pcm: bytes) -> None:
    begun, step = time.monotonic(), 2 * FRAME_SAMPLES
    for at in range(0, len(pcm) - step + 1, step):
        await asyncio.sleep(begun + at / 2 / RATE - time.monotonic())
        stream.push_frame(rtc.AudioFrame(pcm[at : at + step], RATE, 1, FRAME_SAMPLES))


async def listen(stream: Any, num_words: int) -> None:
    """Until transcripts of so many words, and the usage that comes with each, have come."""
    async for event in stream:
        text = event.alternatives[0].text if event.alternatives else ""
        print(json.dumps({"event": event.type.value, "text": text}), flush=True)
        if event.type == stt.SpeechEventType.FINAL_TRANSCRIPT:
            num_words -= len(text.split())
        if event.type == stt.SpeechEventType.RECOGNITION_USAGE and num_words <= 0:
            return


async def main(base_url: str, key: str, options: dict[str, Any], num_words: int) -> None:
    async with http_context.open():
        recognizer = openai.STT(base_url=base_url, api_key=key, use_realtime=True, **options)
        stream = recognizer.stream()
        speaking = asyncio.create_task(speak(stream, sys.stdin.buffer.read()))
        await asyncio.wait_for(listen(stream, num_words), WAIT_S)
        await speaking
        await stream.aclose()
        await recognizer.aclose()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), int(sys.argv[4])))
