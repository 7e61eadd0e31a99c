"""What Whisper can do, and how its hypotheses are judged."""

from __future__ import annotations

from app.models.protocols import Abilities, HypothesisThresholds

# Whether it has word times of its own depends on the conversion of the model.
WHISPER_ABILITIES = Abilities(
    translation=True,
    prompt=True,
    hotwords=True,
    temperatures=True,
    beams=True,
    token_probs=True,
)


WHISPER_THRESHOLDS = HypothesisThresholds(
    # Source: Radford et al. 2022, https://arxiv.org/abs/2212.04356, section 4.5
    temperatures=(0.0, 0.2, 0.4, 0.6, 0.8, 1.0),
    max_compression_ratio=2.4,
    min_avg_logprob=-1.0,
    max_no_speech_prob=0.6,
    # Text that only appears at a higher temperature, where silence is more likely, was not said.
    doubted_no_speech_prob=0.5,
    sure_avg_logprob=-0.6,
    sure_no_speech_prob=0.5,
    # Of 80 utterances of a few seconds, tiny.en is less sure of 32, and base of 21.
    unsure_avg_logprob=-0.2,
)
