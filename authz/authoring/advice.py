"""What is wrong or unwise in a policy's YAML files, in the words of `authz lint`.

Decides which rules of a folder can never matter: shadowed by a denial that asks for nothing more, or asking for what
excludes itself. The engine judges the module that they compile to; this judges what their author wrote. Must never be
silent about a file that is not understood, or a module that is not what the files say. Trusts nothing in them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from authz.authoring.compiling import MODULE, is_current
from authz.authoring.reading import FOLDER, files_below, read_file
from authz.policy.lint import NOT_COMPILED, POLICY_FILE, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from authz.authoring.language import Rule


def folder_findings(folder: Path) -> Iterator[Finding]:
    """Everything that is wrong below a policy's folder, but for its Rego."""
    files = files_below(folder)
    rules: list[Rule] = []
    wrong = False
    for file in files:
        found, problems = read_file(file)
        rules += found
        wrong = wrong or bool(problems)
        for problem in problems:
            yield Finding(rule=POLICY_FILE, message=problem.message, file=str(problem.file), row=problem.line, col=1)
    if not wrong and not is_current(folder):
        yield Finding(rule=NOT_COMPILED, message=f"it is not what {FOLDER}/ says", file=str(folder / MODULE))
