"""`authz test add`: a recorded call becomes a case of a decision table, and is shown to be stopped."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import orjson
import typer

from authz.authoring.lesson import extended, find, lesson
from authz.cli.files import replace
from authz.cli.output import Output, OutputOption, document, line, state
from authz.cli.policy_diff import opened, record_files, side
from authz.errors import ConfigError
from authz.native import Library
from authz.policy.decision_table import WANTS, differences
from authz.policy.engine import UndecidableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from authz.authoring.lesson import Lesson
    from authz.model import JsonObject, JsonValue
    from authz.policy.decision_table import Difference
    from authz.policy.engine import Unknown

EXAMPLES: Final = """
Examples:

  authz test add --from-record 244fc5ea-3cee-41b9-2877-3d1027bc4c30 --records records policy/

  authz test add --from-record 244fc5ea-3cee-41b9-2877-3d1027bc4c30 --records records
    --set args.account='"DE00 0000"' --want '{"effect": "deny", "reason": "unknown_recipient"}' policy/
"""
DEADLINE_S: Final = 5.0


def add_test(
    policy: Annotated[Path, typer.Argument(help="The policy's folder.")] = Path(),
    from_record: Annotated[str, typer.Option(help="Decision id of the record.", show_default=False)] = "",
    records: Annotated[list[Path] | None, typer.Option(help="File or folder of records; default: records.")] = None,
    name: Annotated[str, typer.Option(help="What the case is called; default: incident and the id.")] = "",
    want: Annotated[str, typer.Option(help="What must be answered, in JSON.")] = '{"effect": "deny"}',
    fill: Annotated[
        list[str] | None,
        typer.Option("--set", envvar="AUTHZ_SET", help="PATH=JSON of a masked value; repeatable.", show_default=False),
    ] = None,
    table: Annotated[Path | None, typer.Option(help="Default: tests/lessons.yaml in the folder.")] = None,
    contract: Annotated[Literal["agent", "envoy"], typer.Option(help="What the policy is written for.")] = "agent",
    entrypoint: Annotated[str, typer.Option(help="Rule to ask; default: the contract's.")] = "",
    output: OutputOption = Output.TABLE,
) -> None:
    """Write a recorded call as a case of the policy's decision table, and ask the policy.

    Exit 1 where the policy does not answer as wanted yet; the case is written all the same.
    """
    if not from_record:
        raise ConfigError(
            "--from-record ID is missing", remedy="the decision id is in the record, the span and the answer"
        )
    recorded = find(_lines(record_files(records or [Path("records")])), from_record)
    case_name = name or f"incident {from_record}"
    made = lesson(recorded, case_name, _wanted(want), dict(map(_filled, fill or ())))
    differing = _asked(policy, made, contract, entrypoint)
    file = table or policy / "tests" / "lessons.yaml"
    text = extended(file, made.case)
    file.parent.mkdir(parents=True, exist_ok=True)
    replace(file, text.encode())
    if output is Output.JSON:
        parts = [{"part": each.part, "want": each.want, "got": each.got} for each in differing]
        document({"table": file, "case": case_name, "held": not differing, "differences": parts})
    else:
        line(f"{file}: `{case_name}` is written")
        line(f"{state('fail' if differing else 'pass')} the policy answers {'otherwise' if differing else 'as wanted'}")
        for each in differing:
            line(f"    {each.part}: want {_json(each.want)}, got {_json(each.got)}")
    raise typer.Exit(1 if differing else 0)


def _asked(policy: Path, made: Lesson, contract: Literal["agent", "envoy"], entrypoint: str) -> tuple[Difference, ...]:
    with opened(Library.load(), policy, contract) as serving:
        asked = side(serving, contract, entrypoint)
        try:
            asked.query.evaluate_unknown(orjson.dumps(made.case.input), made.unknown, DEADLINE_S)
        except UndecidableError:
            places = ", ".join(".".join(path) for path in made.unknown)
            raise ConfigError(
                f"the policy reads what the record masks: {places}", remedy="give each with --set PATH=JSON"
            ) from None
        return differences(made.case, asked.query, asked.interpret)


def _lines(files: Sequence[Path]) -> Iterator[bytes]:
    for path in files:
        with path.open("rb") as file:
            yield from file


def _wanted(text: str) -> JsonObject:
    try:
        want = orjson.loads(text)
    except orjson.JSONDecodeError:
        want = None
    if not isinstance(want, dict) or not want or want.keys() - set(WANTS):
        raise ConfigError("--want is not an object of what a case may want", remedy=f"of: {', '.join(WANTS)}")
    return want


def _filled(option: str) -> tuple[Unknown, JsonValue]:
    path, _, text = option.partition("=")
    try:
        return tuple(path.split(".")), orjson.loads(text)
    except orjson.JSONDecodeError:
        remedy = """write it as --set args.account='"DE00"'"""
        raise ConfigError("--set is not PATH=JSON", remedy=remedy) from None


def _json(value: object) -> str:
    return orjson.dumps(value).decode()
