"""What a run says: the tables, the bars of the project, and the one file that history keeps.

Decides which ratios are held against which bars. Must never name the machine: its shape is enough to tell two runs
apart, and files in `bench/results/` are read by strangers. Absolute times move with the machine; ratios are the claim.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from authz import __version__
from authz.native import Library
from bench.measure import IN_FLIGHT, RATE
from bench.programs import AUTHZ, PLUGIN, PROCESSORS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.measure import Figures

RESULTS: Final = Path(__file__).parent / "results"
CPU_BAR, THROUGHPUT_BAR, LATENCY_BAR, LATENCY_MS = 0.75, 1.3, 1.0, 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One promise: `figure` is to be at most `most`, or at least `least`."""

    name: str
    figure: float
    most: float | None = None
    least: float | None = None

    @property
    def met(self) -> bool:
        """Whether the promise holds in this run."""
        return (self.most is None or self.figure <= self.most) and (self.least is None or self.figure >= self.least)


def bars(figures: Mapping[str, Figures]) -> list[Bar]:
    """What is promised of `authz`, as far as this run can tell."""
    ours, plugin = figures[AUTHZ], figures.get(PLUGIN)
    known = [Bar(name=f"p99 at {RATE:.0f}/s, ms", figure=ours.p99_ms, most=LATENCY_MS)]
    if plugin is None:
        return known
    return [
        Bar(name=f"CPU per decision / {PLUGIN}", figure=ours.cpu_us / plugin.cpu_us, most=CPU_BAR),
        Bar(name=f"throughput / {PLUGIN}", figure=ours.per_second / plugin.per_second, least=THROUGHPUT_BAR),
        Bar(name=f"p99 at {RATE:.0f}/s / {PLUGIN}", figure=ours.p99_ms / plugin.p99_ms, most=LATENCY_BAR),
        *known,
    ]


def document(figures: Mapping[str, Figures], steps: Mapping[str, float], settings: Mapping[str, Any]) -> dict[str, Any]:
    """A run as history keeps it."""
    return {
        "schema": "authz.bench/v1",
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "revision": _revision(),
        "machine": machine(),
        "settings": dict(settings),
        "programs": {name: _rounded(asdict(measured)) for name, measured in figures.items()},
        "bars": [_rounded(asdict(bar)) | {"met": bar.met} for bar in bars(figures)],
        "steps_us": _rounded(dict(steps)),
    }


def keep(run: Mapping[str, Any], folder: Path) -> Path:
    """Write one file for the run, named for its time and revision."""
    folder.mkdir(parents=True, exist_ok=True)
    stamp = run["at"][:19].replace("-", "").replace(":", "")
    path = folder / f"{stamp}Z-{run['revision']}.json"
    path.write_text(json.dumps(run, indent=1) + "\n", encoding="utf-8")
    return path


def table(figures: Mapping[str, Figures], tells: Mapping[str, str]) -> str:
    """The programs beside each other."""
    reference = figures.get(PLUGIN, figures[AUTHZ])
    head = ("program", "CPU us", "ratio", "per second", "ratio", "CPU us", "p50 ms", "p99 ms", "p99.9 ms", "errors", "")
    rows = [
        (
            name,
            f"{f.cpu_us:.0f}",
            f"{f.cpu_us / reference.cpu_us:.2f}",
            f"{f.per_second:,.0f}",
            f"{f.per_second / reference.per_second:.2f}",
            f"{f.cpu_at_rate_us:.0f}",
            f"{f.p50_ms:.2f}",
            f"{f.p99_ms:.2f}",
            f"{f.p999_ms:.2f}",
            str(f.errors),
            tells[name],
        )
        for name, f in figures.items()
    ]
    where = f"{IN_FLIGHT} in flight: columns 2 to 5; {RATE:.0f} calls a second: columns 6 to 9; GOMAXPROCS {PROCESSORS}"
    return f"{where}\n\n{_aligned([head, *rows])}"


def bars_table(held: list[Bar]) -> str:
    """Each promise, and whether this run kept it."""
    rows = [("bar", "figure", "wanted", "")]
    for bar in held:
        wanted = f"<= {bar.most}" if bar.most is not None else f">= {bar.least}"
        rows.append((bar.name, f"{bar.figure:.2f}", wanted, "met" if bar.met else "MISSED"))
    return _aligned(rows)


def steps_table(steps: Mapping[str, float]) -> str:
    """The parts of one decision, in process and on one thread."""
    return _aligned([("step, in process", "us", ""), *((name, f"{cost:.2f}", "") for name, cost in steps.items())])


def machine() -> dict[str, Any]:
    """The machine's shape, without its name."""
    versions = Library.load().versions()
    return {
        "cpu": _cpu_model(),
        "processors": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "load_average": round(os.getloadavg()[0], 2),
        **versions,
    }


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _revision() -> str:
    """The commit, or the version where the sources lie outside git."""
    command = ["git", "-C", str(RESULTS.parent), "rev-parse", "--short", "HEAD"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() or __version__


def _rounded(document: dict[str, Any]) -> dict[str, Any]:
    return {key: round(value, 3) if isinstance(value, float) else value for key, value in document.items()}


def _aligned(rows: Sequence[tuple[str, ...]]) -> str:
    """Columns of text: the first and the last to the left, numbers between them to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append("  ".join([row[0].ljust(widths[0]), *cells[1:-1], row[-1]]).rstrip())
    return "\n".join(lines)
