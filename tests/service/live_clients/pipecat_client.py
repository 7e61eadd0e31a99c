"""Pipecat's own STT service in a pipeline. Prints what it tells, one JSON object a line.

python pipecat_client.py BASE_URL KEY OPTIONS WORDS < PCM
OPTIONS: of the service, JSON. WORDS: of all transcripts; it waits for so many.
PCM: 16-bit, 24 kHz, one channel; it is sent in real time. Without `turn_detection` in the options,
the pipeline is told where speech ends, as by a detector of its own.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

from pipecat.frames.frames import (
    EndFrame,
    ErrorFrame,
    Frame,
    InputAudioRawFrame,
    InterimTranscriptionFrame,
    TranscriptionFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.openai.stt import OpenAIRealtimeSTTService
from pipecat.workers.runner import WorkerRunner

RATE = 24_000
STEP = RATE // 50 * 2  # bytes
WAIT_S = 120.0
TOLD = (InterimTranscriptionFrame, TranscriptionFrame, ErrorFrame)


class Printer(FrameProcessor):  # type: ignore[misc]
    """`done` is set after transcripts of so many words, or an error."""

    def __init__(self, num_words: int) -> None:
        super().__init__()
        self._num_words = num_words
        self.done = asyncio.Event()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        name = type(frame).__name__
        if isinstance(frame, TOLD) or "Speaking" in name:
            text = getattr(frame, "text", None) or getattr(frame, "error", "")
            print(json.dumps({"event": name, "text": text}), flush=True)
        if isinstance(frame, TranscriptionFrame):
            self._num_words -= len(frame.text.split())
        if self._num_words <= 0 or isinstance(frame, ErrorFrame):
            self.done.set()
        await self.push_frame(frame, direction)


async def speak(worker: Any, pcm: bytes, by_hand: bool) -> None:
    if by_hand:
        await worker.queue_frame(VADUserStartedSpeakingFrame())
    begun = time.monotonic()
    for at in range(0, len(pcm) - STEP + 1, STEP):
        await asyncio.sleep(begun + at / 2 / RATE - time.monotonic())
        await worker.queue_frame(InputAudioRawFrame(pcm[at : at + STEP], RATE, 1))
    if by_hand:
        await worker.queue_frame(VADUserStoppedSpeakingFrame())


async def main(base_url: str, key: str, options: dict[str, Any], num_words: int) -> None:
    settings = OpenAIRealtimeSTTService.Settings(**options.pop("settings", {}))
    recognizer = OpenAIRealtimeSTTService(
        api_key=key, base_url=base_url, settings=settings, **options
    )
    printer, errors = Printer(num_words), Printer(num_words)  # errors go up the pipeline
    pipeline = Pipeline([errors, recognizer, printer])
    worker = PipelineWorker(pipeline, params=PipelineParams(audio_in_sample_rate=RATE))
    started = asyncio.Event()

    @worker.event_handler("on_pipeline_started")
    async def on_pipeline_started(worker: Any, frame: Frame) -> None:
        started.set()

    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    running = asyncio.create_task(runner.run())
    await asyncio.wait_for(started.wait(), WAIT_S)
    await speak(worker, sys.stdin.buffer.read(), "turn_detection" not in options)
    waits = [asyncio.create_task(each.done.wait()) for each in (printer, errors)]
    await asyncio.wait(waits, timeout=WAIT_S, return_when=asyncio.FIRST_COMPLETED)
    await worker.queue_frame(EndFrame())
    await asyncio.wait_for(running, WAIT_S)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), int(sys.argv[4])))
