"""What Ray costs: the same work through one plain server, and through nginx with two of them.

In these figures the column of the reference is the service without Ray.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import cycle, islice
from pathlib import Path

from app.commands.demo import free_port
from benchmarks.audio import clips, duration_s, tile
from benchmarks.callers import burst
from benchmarks.results import Figure, percentile, show
from benchmarks.servers import Server, running
from benchmarks.setup import OUT, Plan

NUM_CLIPS = 16
MOST_FOR_CLIP_S = 0.015
LEAST_RATIO_LONG = round(1 / 1.05, 3)
WARM_UP = 3
ONE_EACH = {"FLEET_FRONTS": "1", "FLEET_MIN_TRANSCRIBERS": "1", "FLEET_MAX_TRANSCRIBERS": "1"}
TWO_EACH = {"FLEET_FRONTS": "2", "FLEET_MIN_TRANSCRIBERS": "2", "FLEET_MAX_TRANSCRIBERS": "2"}
NGINX = """\
daemon off;
pid {folder}/pid;
error_log {folder}/errors;
worker_processes 1;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_max_body_size 0;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream service {{ least_conn; {servers} }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://service;
            proxy_request_buffering off;
            proxy_read_timeout 1h;
        }}
    }}
}}
"""


def run_fleet(plan: Plan) -> Iterator[Figure]:
    for figures in (_overhead(plan), _callers(plan)):
        for figure in figures:
            show(figure)
            yield figure


def _overhead(plan: Plan) -> Iterator[Figure]:
    """One caller, who asks both in turn: so that drift hits both."""
    recordings = clips(NUM_CLIPS)
    chosen = list(islice(cycle(recordings), plan.ray_clips))
    with ray(**ONE_EACH) as through_ray, running("ours") as plain:
        for clip in recordings[:WARM_UP]:
            through_ray.post(clip, plan.speakers_in_clips)
            plain.post(clip, plan.speakers_in_clips)
        runs = [
            (through_ray.post(c, plan.speakers_in_clips), plain.post(c, plan.speakers_in_clips))
            for c in chosen
        ]
        extra_s = statistics.median(ours - theirs for ours, theirs in runs)
        yield Figure("a clip, more than without Ray", extra_s, None, limit=MOST_FOR_CLIP_S)
        yield _compared("a clip, one caller", runs)
        if plan.ray_minutes:
            recording = tile(plan.ray_minutes, OUT / "audio")
            runs = [
                (through_ray.post(recording, False), plain.post(recording, False))
                for _ in range(plan.repeats)
            ]
            name = f"{plan.ray_minutes:g} min, one caller"
            yield _compared(name, runs, bar=LEAST_RATIO_LONG)


def _compared(name: str, runs: Sequence[tuple[float, float]], bar: float = 0.0) -> Figure:
    ours, theirs = ([run[i] for run in runs] for i in (0, 1))
    both = {"ours": ours, "reference": theirs}
    return Figure(name, statistics.median(ours), statistics.median(theirs), bar=bar, runs=both)


def _callers(plan: Plan) -> Iterator[Figure]:
    """Many callers on two replicas."""
    if not plan.ray_callers:
        return
    if shutil.which("nginx") is None:
        print("nginx is not installed: no comparison of two replicas")
        return
    recordings = clips(NUM_CLIPS)
    count = plan.ray_callers * plan.clips_per_caller
    audio_s = sum(duration_s(clip) for clip in islice(cycle(recordings), count))
    measured = []
    for starting in (ray(**TWO_EACH), behind_nginx()):  # one after the other: they share the cores
        with starting as server:
            burst(server, recordings, plan.ray_callers, plan.ray_callers, speakers=False)
            measured.append(burst(server, recordings, plan.ray_callers, count, speakers=False))
    (ours_s, ours), (theirs_s, theirs) = measured
    name = f"{plan.ray_callers} callers, two replicas"
    yield Figure(
        f"{name}, throughput",
        audio_s / ours_s,
        audio_s / theirs_s,
        "× real time",
        higher_is_better=True,
        note=f"nginx: {count} clips, {audio_s:.0f} s of audio",
    )
    for share in (0.5, 0.95):
        label = f"{name}, latency p{round(100 * share)}"
        yield Figure(label, percentile(ours, share), percentile(theirs, share))


@contextmanager
def ray(**settings: str) -> Iterator[Server]:
    with (
        tempfile.TemporaryDirectory(prefix="ray-") as temp,  # paths of sockets must be short
        running("ours", arguments=("--ray",), RAY_TMPDIR=temp, **settings) as server,
    ):
        yield server


@contextmanager
def behind_nginx() -> Iterator[Server]:
    """Two plain servers behind nginx."""
    with ExitStack() as started:
        folder = Path(started.enter_context(tempfile.TemporaryDirectory(prefix="nginx-")))
        servers = [started.enter_context(running("ours")) for _ in range(2)]
        listed = " ".join(f"server {s.url.removeprefix('http://')};" for s in servers)
        port = free_port()
        config = folder / "nginx.conf"
        config.write_text(NGINX.format(folder=folder, servers=listed, port=port))
        nginx = subprocess.Popen(["nginx", "-c", str(config), "-e", str(folder / "errors")])
        started.callback(nginx.wait)
        started.callback(nginx.terminate)
        time.sleep(1)
        yield Server("ours", f"http://127.0.0.1:{port}", servers[0].process)
