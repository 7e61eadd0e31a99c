"""`python -m benchmarks` measures both sides in one run. Writes a table and results.json."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

from benchmarks.results import HEADER, Figure, write_json, write_markdown
from benchmarks.setup import OUT, Plan, apply_settings, describe_machine

SPEED = ("stages", "overhead", "callers", "head-of-line", "streaming", "memory", "jobs")
SECTIONS = (*SPEED, "live", "words", "utterances")
ON_REQUEST = ("ray", "page")  # they need the extra, and a browser
MODELS = ("demo", "tiny", "base", "small", "large-v3", "large-v3-turbo")  # of geometry.py


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(",") if part.strip())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        epilog="The service's settings control everything else, for both sides: e.g. BATCH_SIZE, "
        "BEAM_SIZE, COMPUTE_TYPE, DEVICE, CPU_THREADS, SEGMENTATION_BATCH_SIZE.",
    )
    add = parser.add_argument
    add("--models", default="base", choices=MODELS, help="geometry of Whisper (default: base)")
    add("--only", default=",".join(SECTIONS), help=f"some of {','.join(SECTIONS + ON_REQUEST)}")
    add("--stages", default="", help="some of decode,recognition,diarization,end-to-end")
    add("--minutes", type=float, default=10, help="length for the stages (default: 10)")
    add("--diarization-minutes", default="", help="e.g. 10,60 (default: as --minutes)")
    add(
        "--long-minutes",
        type=float,
        default=0,
        help="length of whole files (default: as --minutes)",
    )
    add("--memory-minutes", default="10,60", help="e.g. 10,60,240,480 (default: 10,60)")
    add("--reference-memory-minutes", type=float, default=60, help="longest for the reference")
    add("--callers", default="1,4,16,64", help="concurrent callers (default: 1,4,16,64)")
    add("--clips-per-caller", type=int, default=2, help="clips per caller (default: 2)")
    add("--speakers", action="store_true", help="diarize clips in callers and head-of-line")
    add("--repeats", type=int, default=3, help="runs of anything up to --minutes (default: 3)")
    add("--job-clips", type=int, default=200, help="clips as jobs; 0: not (default: 200)")
    add("--job-minutes", default="10", help="a long job's memory, e.g. 480; 0: not (default: 10)")
    add("--job-hours", default="", help="instead of --job-minutes, e.g. 8")
    add("--idle-seconds", type=float, default=60, help="idle CPU of the jobs; 0: not (default: 60)")
    add("--ray-clips", type=int, default=40, help="clips for what Ray costs (default: 40)")
    add("--ray-minutes", type=float, default=10, help="and a long file; 0: not (default: 10)")
    add("--ray-callers", type=int, default=16, help="on two replicas; 0: not (default: 16)")
    add("--words-model", default="base", help="base, tiny.en or a folder (default: base)")
    add("--words-seed", type=int, default=0, help="0: shipped material; others need espeak-ng")
    add("--words-kinds", default="", help="some of sentences,commands,languages,real,nothing")
    add("--words-sides", default="aligned,unaligned,peers", help="figures need all of them")
    add("--live-models", default="demo,tiny.en", help="demo, tiny.en, base or folders")
    add("--live-streams", default="1,2,4,8,16,32", help="at once, until it falls behind")
    add("--live-beside", default="1,4", help="streams beside a long file; empty: not")
    add("--live-long-minutes", type=float, default=120, help="that file's length (default: 120)")
    add("--live-seconds", type=float, default=18, help="length of a stream (default: 18)")
    add("--live-folder", type=Path, help="real recordings with word times, see live_spoken.py")
    add("--out", type=Path, default=OUT / "results.json", help="file for the figures")
    return parser


def _plan(options: argparse.Namespace) -> Plan:
    return Plan(
        models=options.models,
        minutes=options.minutes,
        diarization_minutes=_numbers(options.diarization_minutes) or (options.minutes,),
        long_minutes=options.long_minutes or options.minutes,
        memory_minutes=_numbers(options.memory_minutes),
        reference_memory_minutes=options.reference_memory_minutes,
        callers=tuple(round(number) for number in _numbers(options.callers)),
        repeats=options.repeats,
        clips_per_caller=options.clips_per_caller,
        speakers_in_clips=options.speakers,
        job_clips=options.job_clips,
        job_minutes=tuple(60 * hours for hours in _numbers(options.job_hours))
        or _numbers(options.job_minutes),
        idle_s=options.idle_seconds,
        ray_clips=options.ray_clips,
        ray_minutes=options.ray_minutes,
        ray_callers=options.ray_callers,
    )


def main(arguments: list[str] | None = None) -> int:
    parser = _parser()
    options = parser.parse_args(arguments)
    sections = [name.strip() for name in options.only.split(",")]
    if unknown := set(sections) - {*SECTIONS, *ON_REQUEST}:
        parser.error(f"--only takes {', '.join(SECTIONS + ON_REQUEST)}, not {', '.join(unknown)}")
    plan = _plan(options)
    head: dict[str, object] = {
        "machine": describe_machine(),
        "plan": options.__dict__ | {"out": ""},
    }
    figures: list[Figure] = []
    print(HEADER, flush=True)
    for figure in _measure(plan, sections, options, head):
        figures.append(figure)
        write_json(options.out, head, figures)  # after each, so that an aborted run keeps them
    print("\n" + write_markdown(head, figures))
    print(f"\nwritten to {os.path.relpath(options.out)}")
    return 0


def _measure(
    plan: Plan, sections: list[str], options: argparse.Namespace, head: dict[str, object]
) -> Iterator[Figure]:
    if "page" in sections:
        yield from _measure_page(plan.repeats)
    if set(sections) & {*SPEED, "ray"}:
        yield from _measure_speed(plan, sections, options.stages, head)
    if "live" in sections:
        yield from _measure_live(options)
    if "words" in sections:
        # The libraries read the environment when they are imported, so it comes first.
        apply_settings(None)
        from benchmarks.words import run_words

        kinds = [name for name in options.words_kinds.split(",") if name]
        sides = options.words_sides.split(",")
        yield from run_words(options.words_model, options.words_seed, kinds, sides)
    if "utterances" in sections:
        apply_settings(None)
        from benchmarks.utterances import run_utterances

        yield from run_utterances(options.words_model, options.words_seed)


def _measure_page(repeats: int) -> Iterator[Figure]:
    apply_settings(None)
    from benchmarks.geometry import build_models
    from benchmarks.page import run_page

    apply_settings(build_models("demo", OUT / "models"))
    yield from run_page(repeats)


def _measure_live(options: argparse.Namespace) -> Iterator[Figure]:
    apply_settings(None)
    from benchmarks.geometry import build_models
    from benchmarks.live import LivePlan, run_live

    apply_settings(build_models("demo", OUT / "models"))
    plan = LivePlan(
        models=[name for name in options.live_models.split(",") if name],
        streams=[round(number) for number in _numbers(options.live_streams)],
        beside=[round(number) for number in _numbers(options.live_beside)],
        seconds=options.live_seconds,
        long_minutes=options.live_long_minutes,
        folder=options.live_folder,
    )
    yield from run_live(plan)


def _measure_speed(
    plan: Plan, sections: list[str], stages: str, head: dict[str, object]
) -> Iterator[Figure]:
    """Figures for random weights or those of the demo."""
    # The libraries read the environment when they are imported, so it comes first.
    apply_settings(None)
    from benchmarks.callers import run_callers
    from benchmarks.fleet import run_fleet
    from benchmarks.geometry import build_models
    from benchmarks.head_of_line import run_head_of_line
    from benchmarks.jobs import run_jobs
    from benchmarks.memory import run_memory
    from benchmarks.results import BARS
    from benchmarks.stages import Stages, run_overhead
    from benchmarks.streaming import run_streaming

    settings = apply_settings(build_models(plan.models, OUT / "models"))
    if "jobs" in sections:
        yield from run_jobs(plan)
    if "ray" in sections:
        yield from run_fleet(plan)
    if not set(sections) & set(SPEED) - {"jobs"}:
        return
    both = Stages(settings, plan)
    head["ours"], head["reference"] = both.ours.configuration(), both.reference.configuration()
    bars = BARS[str(both.ours.configuration()["device"]).partition(":")[0]]
    if "stages" in sections:
        yield from both.run([name for name in stages.split(",") if name], bars)
    both.close()
    if "overhead" in sections:
        yield from run_overhead(settings, plan)
    if "callers" in sections:
        yield from run_callers(plan, bars)
    if "head-of-line" in sections:
        yield from run_head_of_line(plan)
    if "streaming" in sections:
        yield from run_streaming(plan)
    if "memory" in sections:
        yield from run_memory(plan)


if __name__ == "__main__":
    raise SystemExit(main())
