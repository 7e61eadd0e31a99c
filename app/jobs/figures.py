"""How many jobs wait and run, for metrics: whoever asks does not wait long for the database."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping

from sqlalchemy.exc import SQLAlchemyError

from app.jobs.job import JobState

log = logging.getLogger(__name__)

PATIENCE_S = 1.0

Counts = Mapping[str, int]


class Figures:
    """Asks in a thread of its own, one question at a time. Any thread may call it."""

    def __init__(
        self, count: Callable[[], Mapping[JobState, int]], patience_s: float = PATIENCE_S
    ) -> None:
        self._count = count
        self._patience_s = patience_s
        self._lock = threading.Lock()
        self._question: _Question | None = None

    def __call__(self) -> Counts:
        """Empty if the database does not answer soon."""
        with self._lock:
            if self._question is None or self._question.answered.is_set():
                self._question = _Question(self._count)
            question = self._question
        question.answered.wait(self._patience_s)
        return question.counts


class _Question:
    def __init__(self, count: Callable[[], Mapping[JobState, int]]) -> None:
        self._count = count
        self.counts: Counts = {}
        self.answered = threading.Event()
        threading.Thread(target=self._ask, name="job-figures", daemon=True).start()

    def _ask(self) -> None:
        try:
            self.counts = {str(state): number for state, number in self._count().items()}
        except SQLAlchemyError as error:  # said in the log by the keeper, too
            log.debug("the jobs cannot be counted: %s", type(error).__name__)
        finally:
            self.answered.set()
