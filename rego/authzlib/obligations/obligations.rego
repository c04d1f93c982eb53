# METADATA
# title: Merging the obligations of several outcomes
# description: |
#   Redactions add up, charges add up per budget, and an approval must satisfy every rule that asked for one: the
#   approvers whom all of them accept, the largest quorum, the shortest life. Where no one could satisfy all of them,
#   or two rules set one header to different values, the outcomes are not `compatible` and the call is denied.
# scope: package
package authzlib.obligations

# METADATA
# title: Outcomes whose obligations can all be met
# scope: document
compatible(outcomes) if {
	_headers_agree(outcomes)
	_approvable(outcomes)
}

# METADATA
# title: The obligations of a decision
# description: Returns the decision's keys `redactions`, `approval`, `charges` and `headers`, those only that are needed.
# scope: document
merged(_, "deny") := {}

merged(outcomes, effect) := {key: value |
	effect != "deny"
	some key, value in {
		"redactions": [redaction | some redaction in {item | some outcome in outcomes; some item in outcome.redactions}],
		"approval": _approval(outcomes),
		"charges": _charges(outcomes),
		"headers": _headers(outcomes),
	}
	count(value) > 0
}

_approval(outcomes) := {} if {
	not _asks_approval(outcomes)
} else := {
	"approvers": [group | some group in _approvers(outcomes)],
	"quorum": max({outcome.approval.quorum | some outcome in outcomes}),
	"ttl_s": min({outcome.approval.ttl_s | some outcome in outcomes}),
}

_asks_approval(outcomes) if {
	some outcome in outcomes
	outcome.approval
}

_approvers(outcomes) := intersection({{group | some group in outcome.approval.approvers} | some outcome in outcomes})

_approvable(outcomes) if not _asks_approval(outcomes)

_approvable(outcomes) if count(_approvers(outcomes)) > 0

_charges(outcomes) := [{"budget": budget, "amount": sum(amounts)} |
	some budget in {charge.budget | some outcome in outcomes; some charge in outcome.charges}
	amounts := [charge.amount | some outcome in outcomes; some charge in outcome.charges; charge.budget == budget]
]

_headers(outcomes) := {key: value |
	some key, value in {
		"set": object.union_n([outcome.headers.set | some outcome in outcomes]),
		"remove": [name | some name in {item | some outcome in outcomes; some item in outcome.headers.remove}],
	}
	count(value) > 0
}

# Header names are compared without case, as HTTP does: `X-Tier: gold` and `x-tier: basic` are a conflict.
_headers_agree(outcomes) if {
	settings := {[lower(name), value] | some outcome in outcomes; some name, value in outcome.headers.set}
	count({name | some [name, _] in settings}) == count(settings)
}
