# METADATA
# title: Combining outcomes into one decision
# description: |
#   A policy collects *outcomes* (`authzlib.outcomes`) in a partial set; `decide` makes the one decision of them.
#   Deny beats approval_needed beats sanitize beats allow, and nothing goes through unless some rule allows it: an
#   allow opens the door, the other effects only narrow it, so that a rule which redacts secrets everywhere cannot let
#   an ungranted call through. A set holds no conflicts, hence no two rules can disagree about the decision.
# scope: package
# related_resources:
#   - ref: docs/policy-library.md
package authzlib.combining

import data.authzlib.obligations
import data.authzlib.outcomes as library_outcomes

# METADATA
# title: The decision on a call
# description: |
#   Returns the whole decision object of contract `agent`. `outcomes` is a set of outcomes, `risk` the tool's risk
#   class (read, write or destructive). `rules` names the rules that decided; `tags.outcomes` keeps every rule that
#   spoke, for the record. Outcomes of mode `flag` decide only when no blocking outcome narrows the call.
# scope: document
decide(outcomes, risk) := object.union(obligations.merged(considered, effect), {
	"effect": effect,
	"mode": _mode(considered),
	"reason": spoken[0][0],
	"message": spoken[0][2],
	"rules": [rule | some rule in {outcome[1] | some outcome in spoken}],
	"risk": risk,
	"tags": _tags(outcomes, considered),
}) if {
	considered := _considered(outcomes)
	effect := _strongest({outcome.effect | some outcome in considered})
	spoken := sort([[outcome.reason, outcome.rule, object.get(outcome, "message", "")] |
		some outcome in considered
		outcome.effect == effect
	])
}

# The outcomes that count. Each step ends in a set that cannot be empty, and the order is the order of distrust.
_considered(outcomes) := {_refusal("outcome_malformed", "A rule of the policy gave a malformed outcome.")} if {
	some outcome in outcomes
	not library_outcomes.well_formed(outcome)
} else := denials if {
	denials := {outcome | some outcome in outcomes; outcome.effect == "deny"; not _flagged(outcome)}
	count(denials) > 0
} else := {_refusal("no_rule_allows", "No rule of the policy allows this call.")} if {
	not "allow" in {outcome.effect | some outcome in outcomes}
} else := {_refusal("obligations_conflict", "Rules of the policy ask for things that exclude each other.")} if {
	not obligations.compatible(_blocking(outcomes))
} else := outcomes if {
	# Only watched rules object, so they decide, and the decision says that it is only watched.
	{outcome.effect | some outcome in _blocking(outcomes)} == {"allow"}
	obligations.compatible(outcomes)
} else := _blocking(outcomes)

_blocking(outcomes) := {outcome | some outcome in outcomes; not _flagged(outcome)}

_flagged(outcome) if outcome.mode == "flag"

_strongest(effects) := "deny" if {
	"deny" in effects
} else := "approval_needed" if {
	"approval_needed" in effects
} else := "sanitize" if {
	"sanitize" in effects
} else := "allow"

# `_considered` keeps flagged outcomes only where they alone narrow the call.
_mode(considered) := "flag" if {
	some outcome in considered
	_flagged(outcome)
} else := "block"

_tags(outcomes, considered) := object.union_n(array.concat(
	[outcome.tags | some outcome in considered],
	[{"outcomes": [object.filter(outcome, ["effect", "mode", "reason", "rule"]) |
		some outcome in outcomes
		is_object(outcome)
	]}],
))

_refusal(reason, message) := {"effect": "deny", "rule": "authzlib.combining", "reason": reason, "message": message}
