"""The service as its command line starts it, but that a job meets its fate at a step of its way.

A file in the folder FAULTS, named as the step, says which: `kill` and `freeze` once, each by the
signal that does it; `hold` as long as the file says so. `<step>.held` tells whom it has met, by its
process, and `<step>.calls` has a character for each time. A job with `{"poison": true}` in its
metadata kills its process each time, once one with `{"beside": true}` has been seen and there is a
file `accepted`. With a file `full`, there is no disk space for uploads. A process that was killed
is started again, unless ALONE is set.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.remembering import wrap_models

FAULTS = Path(os.environ.get("FAULTS", "faults"))


def read(file: Path) -> str:
    try:
        return file.read_text()
    except FileNotFoundError:
        return ""


def meet(step: str) -> None:
    file = FAULTS / step
    while (fate := read(file)) in ("", "hold"):
        if not file.exists():
            return
        (FAULTS / f"{step}.held").write_text(str(os.getpid()))
        time.sleep(0.02)
    (FAULTS / f"{step}.held").write_text(str(os.getpid()))
    file.unlink(missing_ok=True)
    os.kill(os.getpid(), {"kill": signal.SIGKILL, "freeze": signal.SIGSTOP}[fate])


def before(step: str, owner: Any, name: str) -> None:
    """Has whoever calls this meet the fate of a step first."""
    known: Callable[..., Any] = getattr(owner, name)

    def called(*args: Any, **kwargs: Any) -> Any:
        with (FAULTS / f"{step}.calls").open("a") as calls:
            calls.write(".")
        meet(step)
        return known(*args, **kwargs)

    setattr(owner, name, called)


STEPS = {"recognizer": "recognize", "aligner": "align", "diarizer": "diarize"}


def before_run(model: Any, key: Any, source: str, settings: Any) -> Callable[..., Any]:
    """Also where a model remembers what it will answer."""
    if step := STEPS.get(key.kind):
        before(step, model, "run")
    run: Callable[..., Any] = model.run
    return run


def poison(begin: Callable[..., Any]) -> Callable[..., Any]:
    def called(self: Any, run: Any, *args: Any) -> Any:
        if run.job.request.metadata.get("poison"):
            while not all((FAULTS / name).exists() for name in ("beside", "accepted")):
                time.sleep(0.02)
            os.kill(os.getpid(), signal.SIGKILL)
        if run.job.request.metadata.get("beside"):
            (FAULTS / "beside").touch()
        return begin(self, run, *args)

    return called


def full_disk(put: Callable[..., Any]) -> Callable[..., Any]:
    def called(*args: Any) -> Any:
        if (FAULTS / "full").exists():
            raise OSError(errno.ENOSPC, "full")
        return put(*args)

    return called


def prepare() -> None:
    from app.jobs import keeper, lookout
    from app.jobs.doors.rest import RestDoor
    from app.jobs.kept_audio import Keeping
    from app.jobs.runner import Runner
    from app.jobs.runs import Runs
    from app.jobs.sources import Sources
    from app.service.calls import Call
    from app.storage import objects

    before("fetch", Sources, "open")
    before("decode", Call, "transcribe")
    wrap_models(before_run)
    before("keep", Keeping, "keep")
    before("store", RestDoor, "publish")
    before("notify", Runs, "succeed")
    Runner._through_steps = poison(Runner._through_steps)  # type: ignore[method-assign]
    objects.shutil.move = full_disk(objects.shutil.move)  # type: ignore[attr-defined]
    keeper.RETENTION_S = keeper.RESCUE_S = 1.0
    lookout.QUIET_S = 1.0  # what happens next mostly finds queues that rest


def started_again() -> int | None:
    """In the process that serves: None. In the one that watches it: its exit code in the end."""
    stopping = False

    def stop(sig: int, frame: object) -> None:
        nonlocal stopping
        stopping = True
        os.kill(child, signal.SIGTERM)

    child = 0
    while True:
        child = os.fork()
        if child == 0:
            return None
        signal.signal(signal.SIGTERM, stop)
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        if code != -signal.SIGKILL or stopping:
            return code


def main() -> int:
    from app.cli import main as serve
    from app.config.environment import prepare_environment
    from app.config.settings import load_settings

    environment = dict(os.environ)
    prepare_environment(load_settings())
    os.environ.update(environment)  # it forgets secrets, such as the database's address
    FAULTS.mkdir(exist_ok=True)
    if not os.environ.get("ALONE"):
        code = started_again()
        if code is not None:
            return code
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    prepare()
    return serve()


if __name__ == "__main__":
    sys.exit(main())
