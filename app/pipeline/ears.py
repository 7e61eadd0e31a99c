"""The recognizer of this process as an ear of live sessions."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager, ExitStack

from app.domain.options import DecodingOptions
from app.domain.transcript import Hypothesis, Samples
from app.engine.work import Work
from app.models.leases import LeasedRecognizer
from app.models.protocols import RecognitionItem, Recognizer
from app.pipeline.transcribing import Traits

Lease = Callable[[], AbstractContextManager[LeasedRecognizer]]


def traits_of(recognizer: Recognizer) -> Traits:
    return Traits(recognizer.languages, recognizer.abilities, recognizer.thresholds)


class LeasedEar:
    """Leases the recognizer until it is closed, and again if it dies meanwhile."""

    def __init__(self, lease: Lease) -> None:
        """Raises ServiceError: the recognizer cannot be loaded."""
        self._lease = lease
        self._leases = ExitStack()
        self._recognizer = self._leases.enter_context(lease())

    def close(self) -> None:
        self._leases.close()

    @property
    def traits(self) -> Traits:
        return traits_of(self._recognizer.model)

    def expect(self, work: Work) -> None:
        self._recognizer.recognition.expect(work)

    def listen(self, samples: Samples, options: DecodingOptions, work: Work) -> Future[Hypothesis]:
        item = RecognitionItem(samples, options)
        [future] = work.submit(self._living().recognition, [item])
        return future

    def _living(self) -> LeasedRecognizer:
        """The recognizer, loaded again if its thread has ended."""
        if not self._recognizer.recognition.alive:
            self._leases.close()
            self._recognizer = self._leases.enter_context(self._lease())
        return self._recognizer
