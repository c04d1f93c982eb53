"""Writes the table of attacks in `docs/threat-model.md` from the tests, and says which attacks have none.

It decides what counts as a test of an attack: its name begins with the id (`test_a5_…`; in Go `TestA5…`, in Rego also
`test_fail_a5_…`). Nothing but a name ties the two together, so a test that is renamed or lost shows. It must never
touch the page outside its two marks. It trusts names to say what their tests do.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parent.parent
PAGE: Final = ROOT / "docs" / "threat-model.md"
BEGIN: Final = "<!-- attacks: written by tools/attacks.py -->\n"
END: Final = "<!-- end of attacks -->\n"

GROUPS: Final = {
    "A": "Envoy and the envelope",
    "B": "Bodies and answers (ext_proc)",
    "C": "JSON and MCP",
    "D": "Tokens",
    "E": "Kills",
    "F": "Policies on their way in",
    "G": "Rego",
    "H": "Approvals",
    "I": "Budgets",
    "J": "Records",
    "K": "The process",
}

# id -> the attack or fault, and what it must lead to. A code is a row of authz/reasons.py.
ATTACKS: Final = {
    "A1": ("an answer without a status, which Envoy reads as allow", "no path builds one"),
    "A2": ("an exception anywhere in a decision", "`SYS_INTERNAL` and one record, never a gRPC error"),
    "A3": ("a decision that takes too long", "`SYS_DEADLINE`; a late allow is discarded, and the record says so"),
    "A4": ("the caller cancels in the middle", "one record; nothing is spent twice"),
    "A5": ("a body that was cut short and still parses", "`MCP_BODY_PARTIAL`; a prefix is never judged"),
    "A6": ("a content-length that lies", "`MCP_BODY_LENGTH`"),
    "A7": ("an upgrade, with which Envoy sends no body along", "`MCP_BODY_UPGRADE`"),
    "A8": ("a POST without a body", "`MCP_BODY_MISSING`"),
    "A9": ("other verbs, CONNECT without a path", "`METHOD_UNKNOWN`"),
    "A10": ("a check with two different bodies", "`MCP_BODY_AMBIGUOUS`"),
    "A11": ("a second token: header twice, query, cookie", "`TOKEN_MULTIPLE`"),
    "A12": ("header bytes that Envoy shows us otherwise than the tool", "`HEADER_BYTES`"),
    "A13": ("headers that only the proxy may set", "not input; twice is `HEADER_DUPLICATE`; removed towards the tool"),
    "A14": ("a name or reason that would inject a header", "encoded or refused"),
    "A15": ("identity in metadata or headers beside the token", "not read"),
    "A16": ("a path with two readings: `//`, `..;`, `%2f`, case", "`PATH_UNKNOWN`: bytes are compared, nothing else"),
    "A17": ("Host or a header that re-routes the call", "the server is named by Envoy or the route alone"),
    "A18": ("an Envoy configuration that fails open", "`authz lint envoy` names it"),
    "A19": ("streams that are reset at once, in a flood", "others stay served"),
    "A20": ("a message one byte over the limit", "judged up to the limit, then `MCP_BODY_TOO_LARGE`"),
    "A21": ("a caller that is not Envoy, or no check at all", "`SYS_CALLER` on record; sockets open to one group"),
    "B1": ("a redaction that fails", "`REDACT_FAILED`; no byte passes unredacted"),
    "B2": ("a secret cut over chunks", "redacted as if it were whole"),
    "B3": ("ext_proc messages out of order", "an error, never *continue unchanged*"),
    "B4": ("event streams: line endings, cuts, endless", "each event judged, keep-alives at once, memory bounded"),
    "B5": ("encoded answers and bombs", "refused: encodings are not asked for"),
    "B6": ("a length that is wrong after a redaction", "content-length follows the body"),
    "B7": ("secrets in text copies, errors, keys, escapes, trailers", "redacted or the answer is refused"),
    "B8": ("the service dies in the middle of an answer", "the stream ends; nothing unredacted follows"),
    "B9": ("a body that changes between two filters", "`BODY_CHANGED`: the plan names its digest"),
    "C1": ("a key given twice, also when escaped", "`JSON_DUP_KEY` at any depth"),
    "C2": ("a protocol key in another case or folding", "`JSON_KEY_FOLD`"),
    "C3": ("UTF-16, UTF-32, a byte order mark", "`JSON_ENCODING`"),
    "C4": ("NaN, Infinity, 1e400", "`JSON_NUMBER`, `JSON_NUMBER_RANGE`"),
    "C5": ("integers that a double cannot hold", "`JSON_NUMBER_RANGE`"),
    "C6": ("lone surrogates, overlong bytes, NUL in a name", "`JSON_TEXT`, `JSON_ENCODING`"),
    "C7": ("depth and width", "`JSON_DEPTH`, `JSON_SIZE`, in bounded time"),
    "C8": ("bytes after the value", "`JSON_TRAILING`, `JSON_SYNTAX`"),
    "C9": ("every class of JSONTestSuite", "invalid refused; where it leaves a choice, ours is listed"),
    "C10": ("a JSON-RPC batch", "`MCP_BATCH` on every revision"),
    "C11": ("responses, missing ids, ids of other types", "`MCP_ENVELOPE`, `MCP_RESPONSE`"),
    "C12": ("a method spelled otherwise", "`MCP_METHOD_UNKNOWN`"),
    "C13": ("a header that says other than the body", "`HEADER_MISMATCH`"),
    "C14": ("versions missing, unknown, in contradiction", "`MCP_VERSION`"),
    "C15": ("tool names that look alike", "byte for byte, or `TOOL_UNKNOWN`"),
    "C16": ("params and arguments of another shape", "`MCP_PARAMS`; unknown members are not read"),
    "C19": ("two servers with a tool of one name", "the key is server and name"),
    "C20": ("a retry or task of another call", "judged as a new call, in full"),
    "C21": ("another caller's MCP session", "`SESSION_OWNER`"),
    "C22": ("a foreign or null Origin, DNS rebinding", "`ORIGIN`"),
    "C23": ("another content type, charset or encoding", "`CONTENT_TYPE`, `CONTENT_ENCODING`"),
    "D1": ("no algorithm, no signature", "`TOKEN_ALG`"),
    "D2": ("HMAC with the public key, symmetric keys in the set", "`TOKEN_ALG`; one algorithm for each key"),
    "D3": ("a header that names another algorithm than the key's", "`TOKEN_ALG`"),
    "D4": ("a token that brings its own key or its URL", "`TOKEN_HEADER`; nothing is fetched"),
    "D5": ("kid: odd, unknown, shared, a thousand of them", "`TOKEN_KID`; one fetch in 30 s at most"),
    "D6": ("crit, b64, JWE, more parts", "`TOKEN_HEADER`, `TOKEN_MALFORMED`"),
    "D7": ("claims missing, mistyped, repeated; long lives", "`TOKEN_CLAIMS`, `TOKEN_LIFETIME`, `TOKEN_SIZE`"),
    "D8": ("expiry, skew, a clock that steps", "`TOKEN_EXPIRED`, `TOKEN_NOT_YET`, `CLOCK_STEP`"),
    "D9": ("another issuer or audience, one subject of two issuers", "`TOKEN_ISSUER`, `TOKEN_AUD`; two principals"),
    "D10": ("a token of another kind", "`TOKEN_TYP`"),
    "D11": ("scopes: prefixes, separators, shapes", "exact tokens, else `TOKEN_CLAIMS` or `SCOPE`"),
    "D12": ("another spelling of the same token", "refused"),
    "D13": (
        "a key set that fails, rotates or publishes bad keys",
        "the last good keys for an hour",
    ),
    "D14": ("a stolen token that is bound to a key or certificate", "`TOKEN_BINDING`; so is a proof that is replayed"),
    "D15": ("a token for the tool; our token sent on to it", "`TOKEN_AUD`; `authorization` is removed"),
    "E1": ("kills by the hundred, of every kind", "each bites in every sidecar that confirmed it, and nowhere else"),
    "E2": ("Redis frozen or cut off", "known within 2 s; stale rules apply; it recovers by itself"),
    "E3": ("a failover or a crash that loses what was acknowledged", "the ledger puts it back; none is lost"),
    "E4": ("a Redis that evicts when its memory is full", "refused, and said; sidecars ask the control plane"),
    "E5": ("a Redis that takes no more entries", "the kill stands, said loudly; it goes the direct way"),
    "E6": (
        "a stream that was trimmed past its reader",
        "a gap is seen and refilled from the ledger; nothing is skipped",
    ),
    "E7": (
        "a flushed or restored Redis, an older ledger",
        "put back; kills stay, `KILL_EPOCH_REGRESS`, and a new epoch begins",
    ),
    "E8": ("entries and heartbeats that the ledger did not sign", "ignored, `KILL_FORGED`"),
    "E9": ("kills by the thousand, a kill of everything by one person", "`KILL_QUOTA`; two signers"),
    "E10": ("identifiers that nearly match: prefixes, case, look-alikes", "compared byte for byte"),
    "E11": ("entries replayed, reordered or repeated", "the highest version wins; expiry in the ledger's time"),
    "E12": ("a kill that lands while a call is judged or answered", "`REVOKED`; open streams are cut"),
    "E13": ("a link to the source of kills that fails in any way", "no crash; it is tried again, and age counts on"),
    "E14": ("a cold start without Redis", "without a journal not ready; with one, by the stale rules"),
    "F1": ("a bundle without a signature, or with its signature stripped", "`BUNDLE_UNSIGNED`; the active one stays"),
    "F2": (
        "an archive with other files, links, climbing paths, two readings, or a bomb",
        "refused before anything is unpacked, each with a code of its own",
    ),
    "F3": ("weak hashes, HMAC with the public key, another key's name or scope", "refused"),
    "F4": (
        "an older bundle; the same sequence with other files",
        "`BUNDLE_REGRESSION`, `BUNDLE_MISMATCH`; the counter survives a restart",
    ),
    "F5": ("a mirror that is frozen in time", "`BUNDLE_EXPIRED`, `BUNDLE_STALE`"),
    "F6": ("a sequence that uses up all others", "`BUNDLE_FAST_FORWARD`; a signed statement recovers"),
    "F7": (
        "a policy that is damaged or half written on disk",
        "old or new, never mixed; what is damaged is not served",
    ),
    "F8": ("keys that rotate, are revoked, or are too few", "`BUNDLE_KEY`, `BUNDLE_THRESHOLD`"),
    "F9": ("a policy that does not compile, has no such rule, reaches out", "refused; the active one stays"),
    "F10": ("a shadow that denies all, fails or loops", "no answer changes; what it would do is counted"),
    "F11": (
        "a candidate that allows what must be denied, or flips calls",
        "`BUNDLE_GOLDEN`; the active one stays, a canary is taken back",
    ),
    "F12": ("a bad bundle that is served again and again", "`BUNDLE_QUARANTINED`: tried once"),
    "F13": ("blank data", "no decision comes of it; the active one stays"),
    "F14": ("a policy that is far too large", "refused; the active one stays"),
    "F15": ("a policy that kills the evaluator", "the process lives, or starts on the last good one"),
    "F16": ("all sidecars ask at once", "delays are jittered"),
    "F17": ("a swap under load", "each decision names exactly one revision"),
    "F18": ("redirects, plain HTTP", "refused"),
    "F19": ("a key, a source or a log is re-pointed under a running service", "`CONFIG_DRIFT`; not ready"),
    "G1": ("undefined, or not a decision", "`POLICY_UNDEFINED`, `POLICY_TYPE`"),
    "G2": ("two rules that disagree on some inputs", "`POLICY_ERROR`"),
    "G3": ("a builtin that fails inside a deny rule", "`POLICY_ERROR`: strict builtin errors"),
    "G4": ("negation over what is missing", "a missing field never turns deny into allow"),
    "G5": ("classic slips of Rego", "named by lint, held by tests"),
    "G6": ("a rule without end", "`POLICY_TIMEOUT`; the engine serves on"),
    "G7": ("clocks, randomness and the network in a policy", "do not exist; the same input, the same answer"),
    "G8": ("numbers and text that two engines read differently", "one reading: ours is OPA's"),
    "G9": ("an OPA server that fails in any way", "`POLICY_UNAVAILABLE`"),
    "H2": ("an approved call with other arguments", "another digest"),
    "I5": ("amounts that are none", "`POLICY_TYPE`"),
    "J3": ("a full, failing or read-only disk", "`AUDIT_UNAVAILABLE` before any allow"),
    "J12": ("newlines, escapes, secrets, a megabyte of arguments", "one line, escaped, masked"),
    "K1": ("a signal under load", "NOT_SERVING first, calls in flight finish, exit 0"),
    "K2": ("more calls than can be served", "shed at the transport, hence 503 from Envoy; recovers"),
    "K3": ("few descriptors, little memory, many large bodies", "denied, never hung"),
    "K4": ("a configuration that is wrong or unsafe", "does not start; the field is named"),
    "K5": (
        "a call without the right role, of another tenant, or that would name a metric label",
        "refused and recorded; labels come from fixed sets",
    ),
}

_HEAD: Final = "| id | attack or fault | must lead to | tests |\n|---|---|---|---|\n"
_DEFINITIONS: Final = {
    "tests/**/test_*.py": re.compile(r"^ *def (test_([a-k]\d+)_\w+)", re.MULTILINE),
    "native/**/*_test.go": re.compile(r"^func (Test([A-K]\d+)[A-Z]\w*)", re.MULTILINE),
    "rego/**/*_test.rego": re.compile(r"^(test_(?:fail_|success_)?([a-k]\d+)_\w+)", re.MULTILINE),
    "bundles/**/*_test.rego": re.compile(r"^(test_(?:fail_|success_)?([a-k]\d+)_\w+)", re.MULTILINE),
}


class Proof(NamedTuple):
    """One test of an attack."""

    file: str
    name: str


def proofs(root: Path = ROOT) -> dict[str, list[Proof]]:
    """The tests below `root`, by the attack they name; ids that no test names are absent."""
    found: dict[str, set[Proof]] = {}
    for pattern, definition in _DEFINITIONS.items():
        for path in root.glob(pattern):
            for name, attack in definition.findall(path.read_text(encoding="utf-8")):
                found.setdefault(attack.upper(), set()).add(Proof(path.relative_to(root).as_posix(), name))
    return {attack: sorted(found[attack]) for attack in sorted(found, key=order)}


def table(found: dict[str, list[Proof]]) -> str:
    """The attacks by group, each with its tests."""
    rows: dict[str, list[str]] = {}
    for attack in sorted(ATTACKS, key=order):
        what, outcome = ATTACKS[attack]
        tests = "<br>".join(f"[`{name}`](../{file})" for file, name in found.get(attack, ())) or "**none yet**"
        rows.setdefault(GROUPS[attack[0]], []).append(f"| {attack} | {what} | {outcome} | {tests} |\n")
    return "\n" + "\n".join(f"### {group}\n\n{_HEAD}{''.join(lines)}" for group, lines in rows.items()) + "\n"


def parts(page: str) -> tuple[str, str, str]:
    """The page before, in and after the part that this program writes.

    Raises:
        ValueError: the page has lost a mark, or has one twice.
    """
    before, rest = page.split(BEGIN)
    written, after = rest.split(END)
    return before + BEGIN, written, END + after


def main() -> int:
    """Write the table; 1 where an attack has no test."""
    found = proofs()
    before, _, after = parts(PAGE.read_text(encoding="utf-8"))
    PAGE.write_text(before + table(found) + after, encoding="utf-8")
    missing = [attack for attack in ATTACKS if attack not in found]
    print("attacks without a test:", " ".join(missing) or "none")
    return 1 if missing else 0


def order(attack: str) -> tuple[str, int]:
    """Sorts A2 before A10."""
    return attack[0], int(attack[1:])


if __name__ == "__main__":
    sys.exit(main())
