from __future__ import annotations

import threading

import pytest
from prometheus_client.parser import text_string_to_metric_families

from authz import __version__, reasons
from authz.model import Status
from authz.telemetry import names
from authz.telemetry.metrics import Metrics, Reading
from tests.decisions import decision, refusal


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    _, text = metrics.exposition()
    families = text_string_to_metric_families(text.decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return samples(metrics).get((name, tuple(sorted(labels.items()))))


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(contract="agent", revocation="none")


def test_a_decision_is_counted_under_its_outcome(metrics: Metrics) -> None:
    made = decision(Status.FLAGGED_FOR_REVIEW, reason=reasons.POLICY_DENY.code)
    metrics.observe(made)
    metrics.observe(made)
    outcome = {"effect": "deny", "enforced": "allow", "status": "flagged_for_review", "reason": "POLICY_DENY"}
    assert value(metrics, "authz_decisions_total", contract="agent", **outcome) == 2


def test_k5_reasons_of_a_policy_never_make_a_series_of_their_own(metrics: Metrics) -> None:
    for number in range(1000):
        metrics.observe(decision(Status.POLICY_BLOCKED, reason=f"payment_{number}"))
    series = [labels for name, labels in samples(metrics) if name == "authz_decisions_total"]
    assert [dict(labels)["reason"] for labels in series] == [names.POLICY_REASON]


def test_k5_steps_that_are_not_in_the_table_are_not_counted(metrics: Metrics) -> None:
    metrics.observe(decision(latency_us={"policy": 50, "x" * 99: 1, "total": 60}))
    steps = {dict(labels)["step"] for name, labels in samples(metrics) if name.endswith("step_duration_seconds_count")}
    assert steps == set(names.STEPS)


def test_durations_fall_into_their_buckets_at_the_edge(metrics: Metrics) -> None:
    for total in (50, 51):
        metrics.observe(decision(latency_us={"policy": 40, "total": total}))
    base = "authz_decision_duration_seconds"
    assert value(metrics, f"{base}_bucket", le="1e-05") == 0
    assert value(metrics, f"{base}_bucket", le="5e-05") == 1
    assert value(metrics, f"{base}_bucket", le="0.0001") == 2
    assert value(metrics, f"{base}_bucket", le="+Inf") == value(metrics, f"{base}_count") == 2
    assert value(metrics, f"{base}_sum") == pytest.approx(101e-6)
    assert value(metrics, "authz_decision_step_duration_seconds_count", step="policy") == 2
    assert value(metrics, "authz_decision_step_duration_seconds_count", step="identity") == 0


def test_a_duration_above_all_buckets_is_still_counted(metrics: Metrics) -> None:
    metrics.observe(decision(latency_us={"total": 9_000_000}))
    assert value(metrics, "authz_decision_duration_seconds_bucket", le="1.0") == 0
    assert value(metrics, "authz_decision_duration_seconds_count") == 1


def test_no_count_is_lost_between_threads(metrics: Metrics) -> None:
    made = decision()

    def observe_many() -> None:
        for _ in range(2000):
            metrics.observe(made)

    threads = [threading.Thread(target=observe_many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert value(metrics, "authz_decision_duration_seconds_count") == 8000


def test_the_plugins_metrics_exist_under_its_contract_only(metrics: Metrics) -> None:
    plugin = Metrics(contract="envoy", revocation="none")
    for observed in (plugin, metrics):
        observed.observe(refusal(Status.ERROR, reasons.POLICY_UNDEFINED.code))
        observed.observe(refusal(Status.ERROR, reasons.POLICY_ERROR.code))
        observed.observe(refusal(Status.ERROR, reasons.SYS_INTERNAL.code))
    assert value(plugin, "grpc_request_duration_seconds_bucket", handler="check", le="5e-05") == 3
    assert value(plugin, "grpc_request_duration_seconds_count", handler="check") == 3
    assert value(plugin, "error_counter", reason="envoyauth_eval_error") == 2
    assert not any(name.startswith(("grpc_", "error_")) for name, _ in samples(metrics))


def test_the_service_says_what_it_is_and_that_no_kill_reaches_it(metrics: Metrics) -> None:
    found = {name: dict(labels) for name, labels in samples(metrics)}
    assert found["authz_build_info"]["version"] == __version__
    assert value(metrics, "authz_revocation_mode", mode="none") == 1
    assert "process_cpu_seconds_total" in found


def test_sources_are_read_at_each_scrape(metrics: Metrics) -> None:
    revision = "r1"
    metrics.add_source(lambda: [Reading(names.POLICY, 1, (revision, "starter")), Reading(names.READY, 0)])
    assert value(metrics, "authz_policy_info", revision="r1", bundle_id="starter") == 1
    revision = "r2"
    # One series: an old revision does not linger.
    assert [dict(labels)["revision"] for name, labels in samples(metrics) if name == "authz_policy_info"] == ["r2"]
    assert value(metrics, "authz_ready") == 0


def test_one_family_may_come_from_several_sources(metrics: Metrics) -> None:
    metrics.add_source(lambda: [Reading(names.CACHE_HITS, 3, ("token",))])
    metrics.add_source(lambda: [Reading(names.CACHE_HITS, 5, ("query",))])
    assert value(metrics, "authz_cache_hits_total", cache="token") == 3
    assert value(metrics, "authz_cache_hits_total", cache="query") == 5


@pytest.mark.parametrize("labels", [(), ("token", "extra")])
def test_a_reading_with_other_labels_than_its_metric_is_refused(labels: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="authz_cache_hits"):
        Reading(names.CACHE_HITS, 1, labels)


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain"),
        ("text/plain;version=0.0.4", "text/plain"),
        ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text"),
    ],
)
def test_a_scrape_gets_the_format_it_asks_for(metrics: Metrics, accept: str, content_type: str) -> None:
    metrics.observe(decision())
    given, text = metrics.exposition(accept)
    assert given.startswith(content_type)
    assert text.endswith(b"# EOF\n") is (content_type != "text/plain")


def test_every_metric_is_named_as_prometheus_wants_and_once() -> None:
    assert len({metric.name for metric in names.METRICS}) == len(names.METRICS)
    assert set(names.OPA_BUCKETS_S) <= set(names.BUCKETS_S)
    assert list(names.BUCKETS_S) == sorted(names.BUCKETS_S)
    assert not any(metric.name.endswith(("_total", "_info")) for metric in names.METRICS)
