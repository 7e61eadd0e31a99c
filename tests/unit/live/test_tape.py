from __future__ import annotations

import numpy as np

from app.live.tape import Tape


def test_samples_by_their_time() -> None:
    tape, samples = Tape(10.0), np.arange(48_000, dtype=np.float32)
    for at in range(0, 48_000, 7_000):
        tape.add(samples[at : at + 7_000])
    assert (tape.start_s, tape.end_s) == (10.0, 13.0)
    assert np.array_equal(tape.between(11.0, 12.0), samples[16_000:32_000])
    tape.forget(11.5)
    assert (tape.start_s, tape.end_s) == (11.5, 13.0)
    assert np.array_equal(tape.between(0.0, 12.0), samples[24_000:32_000])
    assert np.array_equal(tape.between(12.5, 99.0), samples[40_000:])
    assert len(tape.between(12.0, 11.6)) == 0
    tape.forget(99.0)
    assert (tape.start_s, tape.end_s) == (13.0, 13.0)
    assert len(tape.between(0.0, 99.0)) == 0
