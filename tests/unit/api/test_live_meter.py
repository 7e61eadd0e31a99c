"""The meter of a stream charges each second of sound once."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from app.access.rate_limits import RateLimits
from app.api.live.meter import Meter
from app.domain.errors import Overloaded
from app.engine.work import Work
from app.service.admission import Admission
from app.service.metered_audio import MeteredAudio


@pytest.mark.parametrize("other_ends", [True, False])
def test_a_full_queue_charges_nothing_twice(other_ends: bool) -> None:
    limits, admission = RateLimits(0, 3600), Admission(10, 20.0)
    account, heard = limits.account("live"), list[int]()
    other = admission.enter("other", Work("1", 100), "other")
    admission.weigh(other.__enter__(), 19)

    async def stream() -> None:
        with admission.enter("live", Work("2", 100), "live") as ticket:
            audio = MeteredAudio(cast(Any, None), admission, ticket, account, 100)
            meter = Meter(_stream(audio, account, heard))
            await meter.hear(10.0)
            with pytest.raises(Overloaded):
                await meter.hear(20.5)
            if other_ends:
                other.__exit__(None, None, None)
            await meter.settle()

    asyncio.run(stream())
    assert limits.usage(limits.audio, "live").now == pytest.approx(21, abs=0.1)
    assert sum(heard) == 21


def _stream(audio: MeteredAudio, account: Any, heard: list[int]) -> Any:
    call = SimpleNamespace(record=SimpleNamespace(audio_s=0.0), audio=audio, account=account)
    metrics = SimpleNamespace(stream_heard=heard.append)
    live = SimpleNamespace(service=SimpleNamespace(metrics=metrics))
    return SimpleNamespace(call=call, live=live)
