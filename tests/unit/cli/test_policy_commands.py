"""`init`, `lint`, `test`, `decide`, `doctor` and `token`: what they print, and with which code they end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest

from authz.identity.development_issuer import AUDIENCE, ISSUER, JWKS_FILE

if TYPE_CHECKING:
    from tests.unit.cli.conftest import Run

ROOT = Path(__file__).resolve().parents[3]
STARTER = ROOT / "bundles" / "starter"
SECRET = "AKIAIOSFODNN7EXAMPLE"
BAD = """package authz

default decision := {"effect": "allow"}

decision := {"effect": "deny", "reason": "r"} if input.agent.tenannt == "x"
"""


@pytest.fixture
def policy(run: Run, tmp_path: Path) -> Path:
    assert run("init", tmp_path / "policy").code == 0
    return tmp_path / "policy"


def call(tool: str, args: dict[str, Any], **envelope: Any) -> bytes:
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": args}}
    return json.dumps(message | envelope).encode()


def pay(amount: float, recipient: str = "office-supplies") -> bytes:
    return call("transfer_payment", {"recipient": recipient, "amount": amount, "currency": "EUR"})


def test_a_new_policy_passes_lint_and_test_at_once(run: Run, policy: Path) -> None:
    linted = run("lint", policy)
    assert (linted.code, linted.out) == (0, "0 errors, 0 warnings\n")
    tested = run("test", policy)
    assert tested.code == 0
    assert tested.out.endswith("passed\n")


def test_a_new_policy_never_replaces_one(run: Run, policy: Path) -> None:
    (policy / "data.yaml").write_text("mine: true\n")
    again = run("init", policy)
    assert (again.code, again.out) == (2, "")
    assert (policy / "data.yaml").read_text() == "mine: true\n"


def test_init_tells_what_it_wrote(run: Run, tmp_path: Path) -> None:
    told = run("init", tmp_path / "p", "--output", "json").document()
    assert all(Path(file).is_file() for file in told["files"])
    assert (told["tools"], told["skipped"]) == ([], 0)


def test_init_from_a_server_that_is_not_there_is_unavailable(run: Run, tmp_path: Path) -> None:
    ended = run("init", tmp_path / "p", "--from", "http://127.0.0.1:1/mcp")
    assert (ended.code, ended.out) == (3, "")
    assert not (tmp_path / "p").exists()


def test_lint_names_file_row_id_and_remedy(run: Run, tmp_path: Path) -> None:
    (tmp_path / "p.rego").write_text(BAD)
    linted = run("lint", tmp_path)
    assert linted.code == 1
    assert f"{tmp_path}/p.rego:5:" in linted.out
    assert "error unknown-input: undefined ref: input.agent.tenannt" in linted.out
    assert "1 errors" in linted.out


def test_lint_is_a_document_for_programs(run: Run, tmp_path: Path) -> None:
    (tmp_path / "p.rego").write_text(BAD.replace("tenannt", "tenant"))
    report = run("lint", "--output", "json", tmp_path).document()
    assert report["errors"] == 1
    assert {finding["id"] for finding in report["findings"]} == {"default-allow", "missing-metadata"}
    assert all(finding["remedy"] and finding["row"] for finding in report["findings"])


@pytest.mark.parametrize("name", ["policy", "lint", "PATH", "commands"])
def test_a_folder_of_any_name_is_linted(run: Run, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("init", name).code == 0
    assert run("lint", name).out == "0 errors, 0 warnings\n"
    assert run("lint", "--output", "json", name).document()["errors"] == 0


def test_a_folder_with_the_name_of_a_command_is_written_as_a_path(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("init", "envoy").code == 0
    assert run("lint", "./envoy").code == 0


def test_warnings_alone_do_not_fail_lint(run: Run, tmp_path: Path) -> None:
    (tmp_path / "p.rego").write_text("package authz\n\nshown := 1\n")
    linted = run("lint", tmp_path)
    assert (linted.code, "warning missing-metadata" in linted.out) == (0, True)


def test_lint_reads_tables_too(run: Run, policy: Path) -> None:
    (policy / "tests" / "slip.yaml").write_text("cases: [{name: n, call: {}, wnat: {}}]")
    linted = run("lint", policy)
    assert (linted.code, "decision-table" in linted.out) == (1, True)


def test_lint_says_nothing_of_the_library_that_stands_beside(run: Run, policy: Path) -> None:
    assert run("lint", "--output", "json", policy).document()["findings"] == []


@pytest.mark.parametrize("name", ["lint", "test"])
def test_a_path_that_is_not_there_is_a_usage_error(run: Run, name: str, tmp_path: Path) -> None:
    ended = run(name, tmp_path / "nowhere")
    assert (ended.code, ended.out) == (2, "")


def test_a_failed_case_shows_what_was_wanted_and_what_came(run: Run, policy: Path) -> None:
    (policy / "data.yaml").write_text("tenants: {acme: {grants: {}}}\nrisks: {}\n")
    tested = run("test", policy)
    assert tested.code == 1
    assert "fail a granted tool may be called" in tested.out
    assert 'effect: want "allow", got "deny"' in tested.out


def test_a_pattern_chooses_tests_and_one_that_chooses_none_is_an_error(run: Run, policy: Path) -> None:
    assert run("test", "--run", "stranger", policy).out == "1 passed\n"
    assert run("test", "--run", "nothing at all", policy).code == 2
    assert run("test", "--run", "(", policy).code == 2


def test_results_of_tests_are_a_document_for_programs(run: Run, policy: Path) -> None:
    report = run("test", "--output", "json", policy).document()
    assert report["passed"] is True
    assert {test["outcome"] for test in report["tests"]} == {"pass"}


def test_results_of_tests_are_junit_for_continuous_integration(run: Run, policy: Path) -> None:
    (policy / "tests" / "decisions.yaml").write_text(
        "cases: [{name: 'a < b', call: {agent: eve, tool: t}, want: {effect: allow}}]"
    )
    (suite,) = ET.fromstring(run("test", "--output", "junit", policy).out)  # noqa: S314 - our own output
    (failed,) = suite.findall("testcase[@name='a < b']/failure")
    assert suite.get("failures") == "1"
    assert failed.text == 'effect: want "allow", got "deny"'


def test_coverage_names_rows_that_no_test_evaluates(run: Run, policy: Path) -> None:
    (policy / "more.rego").write_text("package authz\n\n_never if {\n\tinput.agent.id == 1\n}\n")
    assert "more.rego, not evaluated: rows 3" in run("test", "--coverage", policy).out


def test_a_policy_that_does_not_compile_shows_every_problem(run: Run, policy: Path) -> None:
    (policy / "policy.rego").write_text("package authz\n\na := nowhere\n\nb := nothing\n")
    ended = run("test", policy)
    assert (ended.code, ended.out) == (1, "")
    assert "policy.rego:3" in ended.err
    assert "policy.rego:5" in ended.err


def decide(run: Run, body: bytes, *arguments: object, agent: str = "billing-agent") -> Any:
    return run("decide", "--policy", STARTER, "--tenant", "acme", "--agent", agent, *arguments, "-", stdin=body)


def test_an_allowed_call_exits_0_and_a_denied_one_1(run: Run) -> None:
    assert decide(run, pay(5)).code == 0
    assert decide(run, pay(50_000)).code == 1


def test_a_denial_says_which_rule_decided_and_what_would_allow(run: Run) -> None:
    told = decide(run, pay(50_000)).out
    head, _, ways = told.partition("to be allowed")
    assert "payment_over_limit" in head.partition("decided by:")[2]
    assert 'arguments.number_within(input.args, "amount", 0, terms.limit)' in ways
    assert "authzlib" not in told


def test_the_library_is_told_of_when_asked(run: Run) -> None:
    assert "authzlib" in decide(run, pay(5), "--verbose").out


def test_an_approval_says_of_whom(run: Run) -> None:
    ended = decide(run, pay(5_000))
    assert (ended.code, "needs an approval by 1 of finance" in ended.out) == (1, True)


def test_a_sanitized_call_runs_and_shows_what_is_redacted(run: Run) -> None:
    mail = call("send_email", {"to": "a@acme.example", "subject": "s", "body": "SSN 123-45-6789"})
    ended = decide(run, mail, agent="support-agent")
    assert (ended.code, "redacts /body to [REDACTED:ssn]" in ended.out) == (0, True)


def test_the_whole_decision_is_a_document(run: Run) -> None:
    told = decide(run, pay(50_000), "--output", "json").document()
    assert (told["effect"], told["reason"], told["rules"]) == ("deny", "payment_over_limit", ["payments"])
    assert told["decided"]
    assert told["ways"]


def test_c9_a_message_that_the_service_refuses_is_refused_here(run: Run) -> None:
    ended = decide(run, b'{"jsonrpc":"2.0","id":1,"id":2,"method":"tools/call","params":{"name":"x"}}')
    assert (ended.code, "JSON_DUP_KEY" in ended.out) == (1, True)


def test_a_message_of_the_stateless_revision_is_read_with_its_headers(run: Run) -> None:
    meta = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}
    message = json.loads(pay(5))
    message["params"]["_meta"] = meta
    assert decide(run, json.dumps(message).encode()).code == 0


def test_a_whole_policy_input_is_asked_as_it_is(run: Run) -> None:
    asked = {
        "version": 1,
        "phase": "list",
        "agent": {"id": "research-agent", "tenant": "acme", "subject": "s"},
        "tool": {"server": "default", "name": "read_document", "protocol": "mcp", "method": "tools/list"},
    }
    assert decide(run, json.dumps(asked).encode()).code == 0


@pytest.mark.parametrize(("path", "code"), [("/health", 0), ("/secret", 1)])
def test_a_check_request_is_judged_as_opa_envoy_plugin_would(run: Run, path: str, code: int) -> None:
    request = {"attributes": {"request": {"http": {"method": "GET", "path": path}}}}
    arguments = ("--contract", "envoy", "--policy", ROOT / "bundles" / "envoy-compat")
    assert run("decide", *arguments, "-", stdin=json.dumps(request).encode()).code == code


@pytest.mark.parametrize("body", [b"", b"no", b"[]", b'{"attributes": {"request": 7}}'])
def test_what_is_no_call_is_a_usage_error(run: Run, body: bytes) -> None:
    arguments = ("--contract", "envoy", "--policy", ROOT / "bundles" / "envoy-compat")
    ended = run("decide", *arguments, "-", stdin=body)
    assert (ended.code, ended.out) == (2, "")


def test_an_error_never_repeats_the_call(run: Run) -> None:
    assert SECRET not in decide(run, f'{{"{SECRET}": "{SECRET}'.encode()).err


def doctor(run: Run, tmp_path: Path, *arguments: object) -> Any:
    listen = ("--listen", f"unix://{tmp_path}/authz.sock", "--diagnostics", "127.0.0.1:0")
    return run("doctor", "--state", tmp_path / "state", *listen, *arguments)


@pytest.fixture
def token(run: Run, tmp_path: Path) -> str:
    minted = run("token", "--agent", "ann", "--tenant", "acme", "--state", tmp_path / "state")
    assert minted.out.count("\n") == 1
    return minted.out.strip()


def test_doctor_takes_the_flags_of_serve(run: Run, tmp_path: Path, token: str) -> None:
    assert token
    report = doctor(run, tmp_path, "--policy", STARTER, "--output", "json")
    assert (report.code, report.document()["ready"]) == (0, True)


def test_doctor_reads_what_authz_up_wrote_and_flags_stand_above_it(run: Run, tmp_path: Path, token: str) -> None:
    assert token
    issuer = {"issuer": ISSUER, "audience": AUDIENCE, "jwks": str(tmp_path / "state" / JWKS_FILE)}
    written = {
        "version": 1,
        "listen": {"check": f"unix://{tmp_path}/authz.sock", "diagnostics": ""},
        "routes": [{"path": "/mcp"}, {"path": "/other"}],
        "issuers": [issuer],
        "policy": {"paths": [str(STARTER)]},
    }
    (tmp_path / "state" / "authz.yaml").write_text(json.dumps(written))
    told = run("doctor", "--state", tmp_path / "state")
    assert (told.code, "2 routes" in told.out) == (0, True)
    assert run("doctor", "--state", tmp_path / "state", "--policy", tmp_path / "nowhere").code == 1


def test_doctor_without_flags_looks_at_the_users_authz_up(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert "no policy is configured" in run("doctor").out
    (tmp_path / "authz").mkdir()
    (tmp_path / "authz" / "authz.yaml").write_text(f"policy: {{paths: ['{tmp_path}/nowhere']}}\n")
    assert f"no policy at `{tmp_path}/nowhere`" in run("doctor").out
    assert "nowhere" not in run("doctor", "--policy", STARTER).out


def test_doctor_tries_a_token_and_never_shows_it(run: Run, tmp_path: Path, token: str) -> None:
    (tmp_path / "token").write_text(f"{token}\n")
    told = doctor(run, tmp_path, "--policy", STARTER, "--token-file", tmp_path / "token")
    assert "accepted: agent ann of tenant acme" in told.out
    assert token not in told.out + told.err


def test_a_token_in_place_of_its_file_is_not_repeated(run: Run, tmp_path: Path, token: str) -> None:
    ended = doctor(run, tmp_path, "--token-file", token)
    assert (ended.code, token in ended.err) == (2, False)


def test_doctor_exits_1_for_what_is_broken_and_3_for_what_is_away(run: Run, tmp_path: Path, token: str) -> None:
    assert token
    broken = doctor(run, tmp_path, "--policy", tmp_path / "nowhere")
    assert (broken.code, "failed" in broken.out) == (1, True)
    away = doctor(run, tmp_path, "--opa-url", "http://127.0.0.1:1")
    assert (away.code, "unavailable" in away.out) == (3, True)


def test_a_variable_is_a_flag_for_doctor_too(
    run: Run, tmp_path: Path, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert token
    monkeypatch.setenv("AUTHZ_POLICY", str(STARTER))
    assert doctor(run, tmp_path).code == 0


YAML = "version: 1\nrules:\n  - {id: open, effect: allow, match: {tenant: acme, agent: ann, tool: default/t}}\n"


@pytest.fixture
def yaml_policy(tmp_path: Path) -> Path:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "first.yaml").write_text(YAML)
    return tmp_path


def test_a_policy_in_yaml_is_compiled_and_then_linted(run: Run, yaml_policy: Path) -> None:
    before = run("lint", yaml_policy)
    assert (before.code, "not-compiled" in before.out) == (1, True)
    compiled = run("policy", "compile", yaml_policy)
    assert (compiled.code, compiled.out) == (0, f"{yaml_policy}/compiled.rego is written: 1 rules\n")
    assert run("lint", yaml_policy).out == "0 errors, 0 warnings\n"


def test_a_check_writes_nothing_and_tells_by_its_exit_code(run: Run, yaml_policy: Path) -> None:
    assert run("policy", "compile", "--check", yaml_policy).code == 1
    assert not (yaml_policy / "compiled.rego").exists()
    run("policy", "compile", yaml_policy)
    checked = run("policy", "compile", "--check", "--output", "json", yaml_policy)
    assert (checked.code, checked.document()["current"]) == (0, True)
    assert checked.document()["rules"] == [{"rule": "first/open", "source": "policies/first.yaml:3", "effect": "allow"}]


def test_what_yaml_cannot_say_names_the_line_and_rego(run: Run, yaml_policy: Path) -> None:
    (yaml_policy / "policies" / "first.yaml").write_text(YAML.replace("effect: allow", "effect: allow, sum: 1"))
    for command in (("policy", "compile"), ("test",), ("bundle", "build")):
        ended = run(*command, yaml_policy, *([yaml_policy / "b.tar.gz"] if command[0] == "bundle" else []))
        assert (ended.code, ended.out) == (2, "")
        assert "first.yaml:3: the rule has no `sum`" in ended.err
        assert "written in Rego" in ended.err
    assert "first.yaml:3:1: error policy-file: the rule has no `sum`" in run("lint", yaml_policy).out


@pytest.mark.parametrize("command", [("test",), ("decide", "--policy")])
def test_a_module_that_is_older_than_its_yaml_is_not_taken_for_it(
    run: Run, yaml_policy: Path, command: tuple[str, ...]
) -> None:
    run("policy", "compile", yaml_policy)
    (yaml_policy / "policies" / "first.yaml").write_text(YAML.replace("ann", "bob"))
    ended = run(*command, yaml_policy, *(["-"] if command[0] == "decide" else []), stdin=b"{}")
    assert (ended.code, "compiled.rego is not what" in ended.err) == (2, True)


def test_the_schema_is_a_document(run: Run) -> None:
    assert run("policy", "schema").document()["title"] == "Policy in YAML, version 1"


def test_a_playbook_is_added_tested_and_bundled(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "policy"
    added = run("policy", "new", "--template", "high-value-payment", folder)
    assert (added.code, f"wrote {folder}/policies/high-value-payment.yaml" in added.out) == (0, True)
    assert run("lint", folder).out == "0 errors, 0 warnings\n"
    assert run("test", folder).out == "8 passed\n"
    built = run("bundle", "build", "--sequence", "1", "--change-id", "c", folder, tmp_path / "b.tar.gz")
    assert (built.code, built.err) == (0, "")
    assert "compiled.rego" in run("bundle", "inspect", tmp_path / "b.tar.gz").out


def test_playbooks_are_listed(run: Run) -> None:
    assert "Off-hours writes" in run("policy", "new").out
    assert "high-value-payment" in run("policy", "new", "--output", "json").document()


def test_coverage_names_rules_that_held_in_no_test_and_has_a_floor(run: Run, yaml_policy: Path) -> None:
    (yaml_policy / "policies" / "first.yaml").write_text(
        YAML
        + "  - {id: never, effect: deny, match: {tool: u}}\n"
        + "  - {id: night, effect: deny, match: {tool: t}, mode: flag,\n"
        "     when: [{field: args.n, equals: 1, optional: true}]}\n"
    )
    (yaml_policy / "tests").mkdir()
    (yaml_policy / "tests" / "t.yaml").write_text(
        "cases:\n  - {name: n, call: {agent: {id: ann, tenant: acme}, tool: t, args: {n: 1}}, want: {mode: flag}}\n"
    )
    run("policy", "compile", yaml_policy)
    tested = run("test", "--coverage", yaml_policy)
    assert (tested.code, f"held in no test: first/never  {yaml_policy}/policies/first.yaml:4" in tested.out) == (
        0,
        True,
    )
    assert "66.7 %  of 3 rules held in a test" in tested.out
    assert run("test", "--min-coverage", "60", yaml_policy).code == 0
    assert run("test", "--min-coverage", "70", yaml_policy).code == 1


def test_why_a_call_is_denied_is_told_by_the_yaml_rule(run: Run, yaml_policy: Path) -> None:
    text = YAML + "  - {id: never, effect: deny, match: {tool: t}}\n"
    (yaml_policy / "policies" / "first.yaml").write_text(text)
    run("policy", "compile", yaml_policy)
    arguments = ("decide", "--policy", yaml_policy, "--tenant", "acme", "--agent", "ann", "--output", "json", "-")
    told = run(*arguments, stdin=call("t", {})).document()
    assert told["decided"] == [f"{yaml_policy}/policies/first.yaml:4 first/never"]


def test_a_message_is_judged_as_the_first_call_of_a_minute(run: Run, yaml_policy: Path) -> None:
    rule = "  - {id: rate, effect: deny, match: {tool: t}, when: [rate: {of: %s, per: 1m, at_least: %d}]}\n"
    arguments = ("decide", "--policy", yaml_policy, "--tenant", "acme", "--agent", "ann", "--output", "json", "-")

    def decided(name: str, least: int) -> bool:
        (yaml_policy / "policies" / "first.yaml").write_text(YAML + rule % (name, least))
        run("policy", "compile", yaml_policy)
        return "first/rate" in str(run(*arguments, stdin=call("t", {})).document()["decided"])

    assert (decided("calls", 1), decided("calls", 2)) == (True, False)
    assert (decided("denied", 0), decided("denied", 1)) == (True, False)


def record(decision: str, **fields: Any) -> bytes:
    """What the service records of a call that the starter policy allows to spend 900."""
    asked = {
        "version": 1,
        "phase": "call",
        "agent": {"id": "billing-agent", "tenant": "acme", "subject": "billing-agent", "session": "", "scopes": []},
        "tool": {"server": "default", "name": "transfer_payment", "protocol": "mcp", "method": "tools/call"},
        "args": {"amount": 900, "recipient": "office-supplies", "currency": "EUR"} | fields.pop("args", {}),
        "facts": {"budgets": {}, "session": {}, "approval": {}},
    }
    known = {"decision_id": decision, "tenant": "acme", "agent": "billing-agent"}
    tool = {"tool": {"server": "default", "name": "transfer_payment"}}
    return json.dumps({**known, **tool, "input": asked, **fields}).encode() + b"\n"


@pytest.fixture
def records(tmp_path: Path) -> Path:
    folder = tmp_path / "records"
    folder.mkdir()
    (folder / "a.jsonl").write_bytes(record("d1") + b"{ half a line\n" + record("d2", args={"amount": 20}))
    return folder


def test_a_diff_tells_which_calls_flip_and_a_gate_can_stop_on_it(records: Path, run: Run, tmp_path: Path) -> None:
    none = tmp_path / "none.rego"
    none.write_text('package authz\n\ndecision := {"effect": "deny", "reason": "closed"}\n')
    page = tmp_path / "report.html"
    compared = ("policy", "diff", "--from", STARTER, "--to", none, "--records", records, "--html", page)
    told = run(*compared, "--output", "json")
    report = told.document()
    assert (told.code, report["total"], report["flip"], report["tightened"], report["unreadable"]) == (0, 2, 2, 2, 1)
    assert report["groups"]["tool"] == [
        {"before": "allow", "after": "deny", "tool": "default/transfer_payment", "calls": 2}
    ]
    assert "d1" in page.read_text()
    assert run(*compared, "--fail-on", "flip").code == 1
    assert run(*compared, "--fail-on", "loosened").code == 0
    shown = run("policy", "diff", "--from", none, "--to", STARTER, "--records", records, "--fail-on", "loosened")
    assert (shown.code, "stopped before, would run     2" in shown.out) == (1, True)


def test_a_diff_without_records_is_refused(run: Run, tmp_path: Path) -> None:
    compared = ("policy", "diff", "--from", STARTER, "--to", STARTER, "--records")
    assert run(*compared, tmp_path).code == run(*compared, tmp_path / "none").code == 2


def test_an_incident_becomes_a_test_and_is_shown_to_be_stopped(run: Run, records: Path, policy: Path) -> None:
    asked = ("test", "add", policy, "--records", records, "--from-record")
    open_yet = run(*asked, "d1", "--want", '{"effect": "allow"}', "--output", "json")
    lessons = policy / "tests" / "lessons.yaml"
    assert (open_yet.code, open_yet.document()["held"]) == (1, False)
    assert "incident d1" in lessons.read_text()
    held = run(*asked, "d2", "--name", "it stays stopped")
    assert (held.code, "pass the policy answers as wanted" in held.out) == (0, True)
    assert run(*asked, "d2", "--name", "it stays stopped").code == 2
    tested = run("test", policy)
    assert (tested.code, "fail incident d1" in tested.out) == (1, True)


def test_a_lesson_needs_what_its_record_masks_where_a_rule_reads_it(run: Run, tmp_path: Path, policy: Path) -> None:
    file = tmp_path / "r.jsonl"
    file.write_bytes(record("d3", args={"recipient": "[MASKED:iban:x]"}, masked=["/input/args/recipient"]))
    rule = policy / "policy.rego"
    rule.write_text(
        'package authz\n\ndefault decision := {"effect": "deny", "reason": "closed"}\n\n'
        'decision := {"effect": "allow", "reason": "known"} if input.args.recipient == "us"\n'
    )
    asked = ("test", "add", policy, "--records", file, "--from-record", "d3")
    refused = run(*asked)
    assert (refused.code, "args.recipient" in refused.err) == (2, True)
    assert not (policy / "tests" / "lessons.yaml").exists()
    assert run(*asked, "--set", 'args.recipient="eve"').code == 0
    for wrong in ('args.recipient="', "args.nobody=1"):
        assert run(*asked, "--name", "x", "--set", wrong).code == 2
    for wrong in ("{", "[]", "{}", '{"efect": "deny"}'):
        assert run(*asked, "--name", "x", "--set", 'args.recipient="eve"', "--want", wrong).code == 2
    assert run("test", "add", policy, "--records", file).code == 2


def test_rules_are_told_in_sentences(run: Run, tmp_path: Path) -> None:
    run("policy", "new", "--template", "high-value-payment", tmp_path / "p")
    told = run("policy", "explain", tmp_path / "p", "--rule", "over-limit").out
    assert told == (
        "high-value-payment/over-limit (policies/high-value-payment.yaml:25): deny, reason payment_over_limit\n"
        "  speaks of calls of any server/transfer_payment, by every agent of acme\n"
        "  unless one of these is known not to hold; a field that is missing or of another type does not spare:\n"
        "  - args.amount is above 10000\n"
        "  says: The payment is above the limit, or its amount is no number.\n\n"
    )
    assert run("policy", "explain", tmp_path / "p", "--rule", "nothing").code == 1


def test_the_lint_of_policies_is_the_lint(run: Run, yaml_policy: Path) -> None:
    run("policy", "compile", yaml_policy)
    assert run("policy", "lint", yaml_policy).out == run("lint", yaml_policy).out


def test_a_repository_gets_its_pipelines(run: Run, tmp_path: Path) -> None:
    run("init", tmp_path / "policy")
    written = run("policy", "ci", tmp_path, "--output", "json").document()["files"]
    assert sorted(written) == [f"{tmp_path}/.github/workflows/policy.yaml", f"{tmp_path}/.pre-commit-config.yaml"]
