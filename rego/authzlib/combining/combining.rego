# METADATA
# title: Combining outcomes into one decision
# description: |
#   A policy collects *outcomes* in a partial set and `decide` makes the one decision of them: deny beats
#   approval_needed beats sanitize beats allow, and nothing goes through unless some rule allows it. An allow opens the
#   door and the other effects only narrow it, so a rule that redacts secrets everywhere cannot let an ungranted call
#   through. A set holds no conflicts, hence no two rules can disagree about the decision.
#   An outcome is `{effect, rule, reason}` and, as needed, `message`, `mode` ("flag": watched, not enforced),
#   `obligations` (`authzlib.obligations`) and `source` (where the rule was written, if not in Rego). An effect that is
#   none of the four denies.
# scope: package
package authzlib.combining

import data.authzlib.obligations

# METADATA
# title: The decision on a call
# description: |
#   Returns the whole decision object of contract `agent`. `outcomes` is the policy's set, `risk` the tool's risk class
#   (read, write or destructive). `rules` names the rules that decided, the first of their reasons is `reason`,
#   `tags.sources` says where those were written, and `tags.overruled` keeps what the others said, for the record.
# scope: document
decide(outcomes, risk) := {
	# Nearly every call meets one plain allow: what the general form below comes to then, without its questions.
	"effect": "allow",
	"mode": "block",
	"reason": outcome.reason,
	"message": "",
	"rules": [outcome.rule],
	"risk": risk,
	"tags": {"overruled": []},
} if {
	count(outcomes) == 1
	some outcome in outcomes
	outcome.effect == "allow"
	count(outcome) == 3
} else := {
	"effect": "allow",
	"mode": "block",
	"reason": outcome.reason,
	"message": "",
	"rules": [outcome.rule],
	"risk": risk,
	"tags": {"overruled": [], "sources": {outcome.rule: outcome.source}},
} if {
	count(outcomes) == 1
	some outcome in outcomes
	outcome.effect == "allow"
	count(outcome) == 4
} else := object.union(_obligations(verdict), {
	"effect": verdict.effect,
	"mode": verdict.mode,
	"reason": first[0],
	"message": first[1],
	"rules": [rule | some rule in {outcome.rule | some outcome in verdict.determining}],
	"risk": risk,
	"tags": object.union(_sources(verdict.determining), {"overruled": [object.remove(outcome, ["message", "obligations"]) |
		some outcome in (outcomes - verdict.determining)
	]}),
}) if {
	verdict := _verdict(outcomes)
	first := min({[outcome.reason, object.get(outcome, "message", ""), outcome.rule] |
		some outcome in verdict.determining
	})
}

_sources(determining) := {"sources": written} if {
	written := {outcome.rule: outcome.source | some outcome in determining}
	count(written) > 0
} else := {}

# Which effect wins, the outcomes that made it win (`determining`), and those whose obligations bind, in the order of
# distrust. Watched outcomes decide only where nothing else narrows the call.
_verdict(outcomes) := _refused(denials) if {
	denials := {outcome | some outcome in _blocking(outcomes); _rank(outcome) == _ranks.deny}
	count(denials) > 0
} else := _refused({_refusal("no_rule_allows", "No rule of the policy allows this call.")}) if {
	not "allow" in {outcome.effect | some outcome in outcomes}
} else := _permitted("flag", outcomes) if {
	some outcome in outcomes
	outcome.mode == "flag"
	{blocking.effect | some blocking in _blocking(outcomes)} == {"allow"}
} else := _permitted("block", _blocking(outcomes))

# Redactions are made when a call passes, so an approval comes without them: once it is given, the policy is asked anew.
_foreign := {"sanitize": set(), "approval_needed": {"redactions"}, "deny": {"redactions", "approval"}, "allow": set()}

_obligations(verdict) := object.remove(
	obligations.merged([outcome.obligations | some outcome in verdict.binding]),
	object.get(_foreign, verdict.effect, set()),
)

_refused(refusals) := {"effect": "deny", "mode": "block", "determining": refusals, "binding": set()}

_refusal(reason, message) := {"effect": "deny", "rule": "authzlib.combining", "reason": reason, "message": message}

_permitted(mode, outcomes) := {"effect": effect, "mode": mode, "determining": determining, "binding": outcomes} if {
	obligations.compatible([outcome.obligations | some outcome in outcomes])
	strongest := max({_rank(outcome) | some outcome in outcomes})
	determining := {outcome | some outcome in outcomes; _rank(outcome) == strongest}
	effect := max({outcome.effect | some outcome in determining})
} else := _refused({_refusal("obligations_conflict", "Rules of the policy ask for what excludes each other.")})

_blocking(outcomes) := {outcome | some outcome in outcomes; not outcome.mode == "flag"}

_ranks := {"allow": 0, "sanitize": 1, "approval_needed": 2, "deny": 3}

_rank(outcome) := object.get(_ranks, object.get(outcome, "effect", ""), _ranks.deny)
