"""The body of a scrape: the metrics of this process, or of several processes of one service."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

REPLICA = "replica"  # label of every sample if there are several processes

Figures: TypeAlias = Mapping[str, Sequence[Metric]]  # by the name of a process
NO_OTHERS: Figures = MappingProxyType({})


def expose(
    registry: CollectorRegistry,
    accept: str = "",
    replica: str = "",
    others: Figures = NO_OTHERS,
) -> tuple[bytes, str]:
    """The body of a scrape and its content type. `accept` is the request's Accept header.

    `replica`: the name of this process among others of the same service; then all samples are
    labelled with such a name. `others`: their figures.
    """
    try:
        encode, content_type = choose_encoder(accept)
    except (TypeError, ValueError):  # a version that is no number
        encode, content_type = choose_encoder("")
    if not replica:
        return encode(registry), content_type
    joined = CollectorRegistry()
    joined.register(_Joined({replica: tuple(registry.collect()), **others}))
    return encode(joined), content_type


class _Joined(Collector):
    """The figures of several processes, each sample with the name of its process."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for replica, metrics in self._figures.items():
            for metric in metrics:
                same = Metric(metric.name, metric.documentation, metric.type)
                family = families.setdefault(metric.name, same)
                family.samples.extend(
                    sample._replace(labels={**sample.labels, REPLICA: replica})
                    for sample in metric.samples
                )
        yield from families.values()
