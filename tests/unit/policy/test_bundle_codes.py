"""Each refusal of a bundle has a code, and each code a meaning."""

from __future__ import annotations

import re
from pathlib import Path

from authz.reasons import BUNDLE_CODES, CATALOGUE

ROOT = Path(__file__).parents[3]


def test_the_table_of_codes_is_what_the_code_refuses_with() -> None:
    sources = [path.read_text() for path in (ROOT / "authz").rglob("*.py") if path.name != "reasons.py"]
    used = {code for source in sources for code in re.findall(r'"(BUNDLE_[A-Z_]+)"', source)}
    assert used == BUNDLE_CODES.keys()


def test_a_bundles_code_is_no_callers_code() -> None:
    assert BUNDLE_CODES.keys().isdisjoint(CATALOGUE)
