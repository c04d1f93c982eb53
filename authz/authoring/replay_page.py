"""The disagreement report as one HTML page that needs nothing else: no script, no font, no picture, no network.

Decides how it looks. Must never let what a caller wrote be anything but text: every value is escaped, and the page's
own policy lets nothing be loaded or run. Trusts that inputs are as the records have them, masked.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any, Final

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_HEAD: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Disagreement report</title>
<style>
:root { color-scheme: light dark; --line: #8884; --looser: #c0392b; --stricter: #2471a3; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; }
th, td { text-align: left; padding: .25rem .75rem; border-bottom: 1px solid var(--line); vertical-align: top; }
td.count { text-align: right; font-variant-numeric: tabular-nums; }
.looser { color: var(--looser); font-weight: 600; } .stricter { color: var(--stricter); }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: #8881; padding: .75rem; }
code { overflow-wrap: anywhere; }
summary { cursor: pointer; }
</style>
</head>
"""
_SUMS: Final = {
    "total": "calls compared",
    "flip": "would be answered otherwise",
    "loosened": "stopped before, would run",
    "tightened": "ran before, would be stopped",
    "duty": "same effect, other obligations",
    "same": "same answer",
    "undecidable": "undecidable: a rule reads what the record masks",
    "without_input": "no input recorded",
    "unreadable": "unreadable lines",
}


def page(report: Mapping[str, Any]) -> str:
    """The page of a report, as `Disagreement.document` makes it, with `before` and `after`: names of the policies."""
    parts = [
        _HEAD,
        (
            f"<body>\n<h1>Disagreement report</h1>\n<p>From <code>{escape(report['before'])}</code>"
            f" to <code>{escape(report['after'])}</code></p>\n"
        ),
        _table(("", ""), ((text, report[name]) for name, text in _SUMS.items() if report.get(name))),
    ]
    for kind, groups in report["groups"].items():
        if groups:
            parts.append(f"<h2>By {kind}</h2>\n")
            rows = ((group[kind] or "none", _change(group), group["calls"]) for group in groups)
            parts.append(_table((kind, "change", "calls"), rows))
    if places := report["undecidable_by_place"]:
        parts.append("<h2>Masked places that rules read</h2>\n")
        parts.append(_table(("place in the input", "calls"), places.items()))
    if report["examples"]:
        parts.append("<h2>Examples</h2>\n")
        parts += map(_example, report["examples"])
    return "".join([*parts, "</body>\n</html>\n"])


def _table(heads: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> str:
    head = f"<tr>{''.join(f'<th>{escape(name)}</th>' for name in heads)}</tr>\n" if any(heads) else ""
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>\n" for row in rows)
    return f"<table>\n{head}{body}</table>\n"


def _cell(value: object) -> str:
    if isinstance(value, int):
        return f'<td class="count">{value:,}</td>'
    return f"<td>{value if isinstance(value, _Markup) else escape(str(value))}</td>"


class _Markup(str):
    """Text that was escaped where it was made."""

    __slots__ = ()


def _change(group: Mapping[str, Any]) -> _Markup:
    looks = {"deny": 0, "approval_needed": 0}
    before, after = (looks.get(group[side], 1) for side in ("before", "after"))
    kind = "looser" if after > before else "stricter" if after < before else ""
    return _Markup(f'<span class="{kind}">{escape(group["before"])} → {escape(group["after"])}</span>')


def _example(one: Mapping[str, Any]) -> str:
    answers = {side: f"{one[side]['effect']} ({one[side]['reason']})" for side in ("before", "after")}
    shown = orjson.dumps(one["input"], option=orjson.OPT_INDENT_2).decode()
    words = f"{one['tool']} by {one['tenant']}/{one['agent']}: {answers['before']} → {answers['after']}"
    told = f"decision <code>{escape(one['decision_id'])}</code>, {escape(one['timestamp'])}"
    rule = f"rule <code>{escape(one['rule'])}</code>"
    return f"<details><summary>{escape(words)}</summary>\n<p>{told}, {rule}</p>\n<pre>{escape(shown)}</pre></details>\n"
