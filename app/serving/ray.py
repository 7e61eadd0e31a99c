"""The service on Ray Serve: fronts that need no GPU, and transcribers that hold the models.

`application` is for `serve run app.serving.ray:application` and the configuration of
`serve deploy`; `serve_on_ray` starts a cluster on this machine. See docs/ray.md.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping

import ray
from ray import serve
from ray.exceptions import RayError
from ray.serve import Application
from ray.serve.config import (
    AutoscalingConfig,
    AutoscalingPolicy,
    HTTPOptions,
    ProxyLocation,
    RequestRouterConfig,
)

from app.config.settings import Settings, load_settings
from app.domain.errors import ConfigurationError
from app.serving.autoscaling import QueuedAudio
from app.serving.ray_ending import Signals, Stopped, drain
from app.serving.ray_front import Front
from app.serving.ray_replica import refuse_unfit
from app.serving.ray_router import ModelRouter
from app.serving.ray_transcriber import Transcriber

log = logging.getLogger(__name__)

NAME = "whisperx-asr"
SPARE_S = 60.0  # for a request to end by itself, before its replica is ended
WAIT_LOOP_S = 0.5
# What a transcriber should have before another one gets anything, see `routing.py`. A GPU does 16
# clips in hardly more time than one; a CPU gains nothing.
FULL_WITH_GPU_S, FULL_WITHOUT_S = 160.0, 10.0
STATS_EVERY_S = 1.0
HEALTH_EVERY_S = 5.0
STARTS = 3
LOOK_BACK_S = 15.0  # more than the 10 s between two reports to the controller


def application(args: Mapping[str, object]) -> Application:
    """The application of Ray Serve. `args` override settings, by the names of their variables.

    Raises:
        ConfigurationError: an invalid setting.
    """
    overrides = dict(args)
    settings = load_settings(overrides)
    refuse_unfit(settings, load_settings())
    ending = {
        "graceful_shutdown_timeout_s": drain_s(settings),
        "graceful_shutdown_wait_loop_s": WAIT_LOOP_S,
        "health_check_period_s": HEALTH_EVERY_S,
    }
    gpus = _gpus(settings)
    transcribers = serve.deployment(Transcriber).options(
        name="Transcriber",
        max_ongoing_requests=settings.max_queue_size,
        max_queued_requests=settings.max_queue_size,
        ray_actor_options={"num_cpus": 1, "num_gpus": gpus},
        request_router_config=RequestRouterConfig(
            request_router_class=ModelRouter,
            request_router_kwargs={"full_s": FULL_WITH_GPU_S if gpus else FULL_WITHOUT_S},
            request_routing_stats_period_s=STATS_EVERY_S,
        ),
        **_number(settings),
        **ending,
    )
    fronts = serve.deployment(serve.ingress()(Front)).options(
        name="Front",
        num_replicas=settings.fleet_fronts,
        max_ongoing_requests=settings.max_connections,
        ray_actor_options={"num_cpus": 1},
        **ending,
    )
    return fronts.bind(transcribers.bind(overrides), overrides)


def drain_s(settings: Settings) -> float:
    """How long requests may take to end before their replica is ended."""
    return settings.fleet_drain_s or settings.request_timeout_s + SPARE_S


def _number(settings: Settings) -> dict[str, object]:
    """Of transcribers: fixed, or as the audio that waits needs them."""
    fewest, most = settings.fleet_min_transcribers, settings.fleet_max_transcribers
    if fewest == most:
        return {"num_replicas": most}
    policy = AutoscalingPolicy(
        policy_function=QueuedAudio, policy_kwargs={"target_s": settings.fleet_target_audio_s}
    )
    autoscaling = AutoscalingConfig(
        min_replicas=fewest,
        max_replicas=most,
        upscale_delay_s=0.0,
        downscale_delay_s=settings.fleet_scale_down_s,
        look_back_period_s=LOOK_BACK_S,
        aggregation_function="max",  # a mean would notice a burst late
        policy=policy,
    )
    return {"autoscaling_config": autoscaling}


def _gpus(settings: Settings) -> float:
    """Of each transcriber."""
    if settings.fleet_transcriber_gpus is not None:
        return settings.fleet_transcriber_gpus
    if settings.device == "cpu":
        return 0.0
    known = ray.cluster_resources() if ray.is_initialized() else {}
    return 1.0 if settings.device == "cuda" or known.get("GPU", 0.0) > 0 else 0.0


def serve_on_ray(settings: Settings) -> int:
    """Start a cluster on this machine and serve until a signal arrives. Returns the exit code.

    Raises:
        ConfigurationError: it cannot start.
    """
    signals = Signals()
    replicas = settings.fleet_fronts + settings.fleet_max_transcribers
    _start_cluster(max(os.cpu_count() or 1, replicas))  # they share what there is
    try:
        signals.handle()  # not before: Ray sets its own
        serve.start(
            proxy_location=ProxyLocation.HeadOnly,
            http_options=HTTPOptions(
                host=settings.host,
                port=settings.port,
                keep_alive_timeout_s=round(settings.keep_alive_timeout_s),
            ),
        )
        fronts = serve.run(application({}), name=NAME, route_prefix="/")
        signals.started()
        log.info("serving on %s:%d with Ray", settings.host, settings.port)
        signals.stopping.wait()
        log.info("stopping: running requests end first")
        drain(fronts, drain_s(settings), signals.hurried)
        serve.shutdown()
    except Stopped:
        log.info("stopping before it has started")
    except (RuntimeError, RayError) as error:
        raise ConfigurationError(f"The service does not start on Ray: {error}") from error
    finally:
        ray.shutdown()
    return 0


def _start_cluster(num_cpus: int) -> None:
    for left in reversed(range(STARTS)):
        try:
            ray.init(address="local", num_cpus=num_cpus, include_dashboard=False)
        # Ray raises nothing more special if one of its processes does not start within 30 s.
        except Exception as error:
            ray.shutdown()
            if not left:
                raise ConfigurationError(f"Ray does not start: {error}") from error
            log.warning("Ray did not start in time; trying again")
        else:
            return
