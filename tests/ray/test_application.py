"""The application of Ray Serve follows the settings. Needs no cluster."""

from __future__ import annotations

from typing import Any

import pytest
from ray.serve._private.build_app import build_app

from app.domain.errors import ConfigurationError
from app.domain.transcript import Segment
from app.engine.work import Work
from app.pipeline.flow import Listener
from app.serving.orders import Recognized, Settled, Started
from app.serving.ray import application
from app.serving.ray_remote import Retelling

DEMO = {"ASR_MODEL": "demo"}


def deployments(**settings: object) -> dict[str, Any]:
    built = build_app(application({**DEMO, **settings}), name="any", default_runtime_env={})
    return {deployment.name: deployment for deployment in built.deployments}


def config(deployment: Any) -> Any:
    return deployment._deployment_config


def test_a_fixed_number() -> None:
    built = deployments(
        FLEET_FRONTS=3, FLEET_MIN_TRANSCRIBERS=2, FLEET_MAX_TRANSCRIBERS=2, MAX_QUEUE_SIZE=7
    )
    assert built["Front"].num_replicas == 3
    assert built["Transcriber"].num_replicas == 2
    assert config(built["Transcriber"]).autoscaling_config is None
    assert config(built["Transcriber"]).max_ongoing_requests == 7
    assert built["Transcriber"].max_queued_requests == 7


def test_as_many_as_the_audio_needs() -> None:
    built = deployments(
        FLEET_MIN_TRANSCRIBERS=0,
        FLEET_MAX_TRANSCRIBERS=5,
        FLEET_TARGET_AUDIO_SECONDS=60,
        FLEET_SCALE_DOWN_SECONDS=7,
    )
    scaling = config(built["Transcriber"]).autoscaling_config
    assert (scaling.min_replicas, scaling.max_replicas) == (0, 5)
    assert scaling.downscale_delay_s == 7
    assert scaling.policy.policy_kwargs == {"target_s": 60.0}


@pytest.mark.parametrize(
    ("settings", "gpus"),
    [({"FLEET_TRANSCRIBER_GPUS": 0.5}, 0.5), ({"DEVICE": "cuda"}, 1.0), ({"DEVICE": "cpu"}, 0.0)],
)
def test_gpus(settings: dict[str, object], gpus: float) -> None:
    built = deployments(**settings)
    assert built["Transcriber"].ray_actor_options["num_gpus"] == gpus
    assert "num_gpus" not in built["Front"].ray_actor_options


def test_a_replica_may_finish_what_it_has() -> None:
    for deployment in deployments(REQUEST_TIMEOUT_SECONDS=900).values():
        assert config(deployment).graceful_shutdown_timeout_s == 960
    for deployment in deployments(FLEET_DRAIN_SECONDS=33).values():
        assert config(deployment).graceful_shutdown_timeout_s == 33


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"WYOMING_PORT": 10300}, "WYOMING_PORT"),
        ({"FLEET_MIN_TRANSCRIBERS": 2, "FLEET_MAX_TRANSCRIBERS": 1}, "FLEET_MAX_TRANSCRIBERS"),
        ({"FLEET_FRONTS": 0}, "FLEET_FRONTS"),
        ({"MAX_FILE_SIZE_MB": 1001}, "MAX_FILE_SIZE_MB"),
    ],
)
def test_what_cannot_work_is_named(settings: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        deployments(**settings)


def test_a_second_transcriber_tells_only_what_is_new() -> None:
    told: list[str] = []
    listener = Listener(lambda s: told.append(s.text), lambda s: told.append(s.text.upper()))
    retelling = Retelling(listener, Work("a", 60))
    a, b, c = (Segment(0.0, 1.0, text) for text in "abc")
    for event in (
        *(Started(), Recognized(a), Settled(a), Recognized(b)),
        *(Started(), Recognized(a), Recognized(b), Settled(a), Settled(b), Recognized(c)),
    ):
        retelling.take(event)
    assert told == ["a", "A", "b", "B", "c"]
