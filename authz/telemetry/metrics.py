"""Prometheus metrics: what is counted of each decision, and what other parts say of themselves at a scrape.

Decides which labels a decision is counted under. Must never let a caller or a policy make a new label value (attack
K5): a reason code that is not in the catalogue counts as `policy`. Must cost a decision little, so a decision adds to
plain integers under one lock, and the text is made from them when somebody scrapes.

Trusts the sources given to it to be quick and to use the names of `names.py`.
"""

from __future__ import annotations

import math
import platform
import threading
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Final, Literal

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from authz import __version__, reasons
from authz.telemetry import names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from authz.model import Decision

    Source = Callable[[], Iterable["Reading"]]

MICROSECOND: Final = 1e-6

_REASONS: Final = frozenset([*reasons.CATALOGUE, *names.OWN_REASONS])

# opa-envoy-plugin's error codes, by what we call the same failure.
_OPA_ERRORS: Final = {
    reasons.HTTP_PATH.code: "request_parse_error",
    reasons.HTTP_QUERY.code: "request_parse_error",
    reasons.JSON_SYNTAX.code: "request_parse_error",
    reasons.SYS_DEADLINE.code: "check_request_timeout",
    reasons.POLICY_ERROR.code: "envoyauth_eval_error",
    reasons.POLICY_TIMEOUT.code: "envoyauth_eval_error",
    reasons.POLICY_UNDEFINED.code: "envoyauth_eval_error",
    reasons.POLICY_TYPE.code: "envoyauth_result_error",
}


@dataclass(frozen=True, slots=True)
class Reading:
    """What another part counts by itself: one sample, with the values of the metric's labels in their order."""

    metric: names.Metric
    value: float
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.labels) != len(self.metric.labels):
            message = f"{self.metric.name} has the labels {', '.join(self.metric.labels) or 'none'}"
            raise ValueError(message)


_EDGES_US: Final = tuple(round(bucket / MICROSECOND) for bucket in names.BUCKETS_S)


@dataclass(slots=True)
class _Histogram:
    """Observations in whole microseconds between `_EDGES_US`; the last bin is for what is above all of them."""

    bins: list[int] = field(default_factory=lambda: [0] * (len(_EDGES_US) + 1))
    sum_us: int = 0


class Durations(Collector):
    """A histogram of one metric without labels."""

    def __init__(self, metric: names.Metric) -> None:
        self._metric = metric
        self._lock = threading.Lock()
        self._seen = _Histogram()

    def add(self, seconds: float) -> None:
        """Count one duration."""
        microseconds = round(seconds / MICROSECOND)
        with self._lock:
            self._seen.bins[bisect_left(_EDGES_US, microseconds)] += 1
            self._seen.sum_us += microseconds

    def collect(self) -> Iterator[Metric]:
        """The family, as one consistent moment saw it."""
        with self._lock:
            seen = _Histogram(list(self._seen.bins), self._seen.sum_us)
        yield _histogram_family(self._metric, {(): seen})


class DecisionCounts(Collector):
    """Counts and durations of decisions."""

    def __init__(self, contract: Literal["agent", "envoy"]) -> None:
        self._contract = contract
        self._lock = threading.Lock()
        self._decisions: dict[tuple[str, str, str, str], int] = {}
        self._durations = {step: _Histogram() for step in (*names.STEPS, names.TOTAL)}

    def add(self, decision: Decision) -> None:
        """Count one decision."""
        reason = decision.reason if decision.reason in _REASONS else names.POLICY_REASON
        key = (decision.effect, decision.enforced, decision.status, reason)
        with self._lock:
            self._decisions[key] = self._decisions.get(key, 0) + 1
            for step, microseconds in decision.latency_us.items():
                seen = self._durations.get(step)
                if seen is not None:
                    seen.bins[bisect_left(_EDGES_US, microseconds)] += 1
                    seen.sum_us += microseconds

    def collect(self) -> Iterator[Metric]:
        """The families, as one consistent moment saw them."""
        with self._lock:
            decisions = dict(self._decisions)
            durations = {step: _Histogram(list(seen.bins), seen.sum_us) for step, seen in self._durations.items()}
        total = durations.pop(names.TOTAL)
        yield from _families([Reading(names.DECISIONS, n, (*key, self._contract)) for key, n in decisions.items()])
        yield _histogram_family(names.DURATION, {(): total})
        yield _histogram_family(names.STEP_DURATION, {(step,): seen for step, seen in durations.items()})
        if self._contract == "envoy":
            yield _histogram_family(names.OPA_DURATION, {("check",): total}, names.OPA_BUCKETS_S)
            yield from _families(_opa_errors(decisions))


def _opa_errors(decisions: Mapping[tuple[str, str, str, str], int]) -> list[Reading]:
    errors: Counter[str] = Counter()
    for (*_, reason), count in decisions.items():
        if error := _OPA_ERRORS.get(reason):
            errors[error] += count
    return [Reading(names.OPA_ERRORS, count, (error,)) for error, count in errors.items()]


class _Sources(Collector):
    """What other parts say of themselves, asked at each scrape."""

    def __init__(self) -> None:
        self.sources: list[Source] = []

    def collect(self) -> Iterator[Metric]:
        yield from _families([reading for source in self.sources for reading in source()])


class Registry:
    """What one program says of itself at a scrape.

    Args:
        constant: readings that never change.
    """

    def __init__(self, *constant: Reading) -> None:
        self._registry = CollectorRegistry()
        self._sources = _Sources()
        build = Reading(names.BUILD, 1, (__version__, platform.python_version()))
        self.add_source(lambda: (build, *constant))
        self._registry.register(self._sources)
        ProcessCollector(registry=self._registry)

    def add_source(self, source: Source) -> None:
        """Ask `source` at every scrape. It names each of its metrics with the same labels only once."""
        self._sources.sources.append(source)

    def durations(self, metric: names.Metric) -> Durations:
        """A new histogram of this metric; once for each."""
        durations = Durations(metric)
        self._registry.register(durations)
        return durations

    def exposition(self, accept: str = "") -> tuple[str, bytes]:
        """The content type and text of a scrape, in the format that an `Accept` header asks for."""
        encode, content_type = choose_encoder(accept)
        return content_type, encode(self._registry)


class Metrics(Registry):
    """The sidecar's registry.

    Args:
        contract: a label of every decision; `envoy` adds opa-envoy-plugin's own metrics.
        revocation: where kills come from, as `authz_revocation_mode` says.
    """

    def __init__(self, *, contract: Literal["agent", "envoy"], revocation: str) -> None:
        super().__init__(Reading(names.REVOCATION_MODE, 1, (revocation,)))
        self._decisions = DecisionCounts(contract)
        self._registry.register(self._decisions)

    def observe(self, decision: Decision) -> None:
        """Count one decision. Safe on many threads; about 2 us."""
        self._decisions.add(decision)


_SUFFIXES: Final = {"counter": "_total", "info": "_info"}


def _families(readings: Iterable[Reading]) -> Iterable[Metric]:
    families: dict[str, Metric] = {}
    for reading in readings:
        metric = reading.metric
        family = families.setdefault(metric.name, Metric(metric.name, metric.help, metric.kind))
        sample = metric.name + _SUFFIXES.get(metric.kind, "")
        family.add_sample(sample, dict(zip(metric.labels, reading.labels, strict=True)), reading.value)
    return families.values()


def _histogram_family(
    metric: names.Metric,
    histograms: Mapping[tuple[str, ...], _Histogram],
    buckets_s: Sequence[float] = names.BUCKETS_S,
) -> HistogramMetricFamily:
    """Cumulative counts at `buckets_s`, which must be among those that are kept."""
    family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
    for labels, histogram in histograms.items():
        below = dict(zip((*names.BUCKETS_S, math.inf), accumulate(histogram.bins), strict=True))
        cumulative = [(repr(edge), float(below[edge])) for edge in buckets_s]
        family.add_metric(labels, [*cumulative, ("+Inf", float(below[math.inf]))], histogram.sum_us * MICROSECOND)
    return family
