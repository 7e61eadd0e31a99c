"""What a client wants of a live stream, independent of any wire format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from app.audio.stream import Encoding
from app.domain.options import Task
from app.domain.transcript import SAMPLE_RATE
from app.live.endpointing import EndpointOptions


@dataclass(frozen=True, slots=True)
class LiveOptions:
    """`model`: the canonical name. `language` None: detect it for each utterance.

    `endpoints` None: the client says where utterances end. `partials`: tell words before their
    utterance has ended. `use_context`: what was said before is a prompt for what follows, and its
    sound is heard again where the recognizer is unsure. `diarize`: tell who speaks. `voices`:
    embeddings of known speakers by their names.
    """

    model: str
    encoding: Encoding = Encoding.F32
    rate: int = SAMPLE_RATE
    language: str | None = None
    task: Task = Task.TRANSCRIBE
    prompt: str = ""
    hotwords: str = ""
    use_context: bool = True
    partials: bool = True
    diarize: bool = False
    voices: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    endpoints: EndpointOptions | None = field(default_factory=EndpointOptions)

    @property
    def bytes_per_s(self) -> int:
        """Of the arriving sound."""
        return self.encoding.sample_bytes * self.rate
