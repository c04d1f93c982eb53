from __future__ import annotations

from authz.telemetry import names
from tools.reference_telemetry import PAGE, page


def test_the_reference_page_is_what_the_table_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()


def test_every_attribute_and_metric_is_on_the_page() -> None:
    text = page()
    missing = [name for name in (*names.ATTRIBUTES, *(metric.name for metric in names.METRICS)) if name not in text]
    assert missing == []


def test_k5_no_label_names_a_caller_or_an_argument() -> None:
    labels = {label for metric in names.METRICS for label in metric.labels}
    assert not labels & {"agent", "tenant", "session", "subject", "tool", "path", "user", "token", "args"}
