# METADATA
# title: Merging the obligations of several rules
# description: |
#   The obligations of an outcome are any of the decision's `redactions`, `approval`, `charges`, `headers` and `tags`.
#   Redactions add up, charges add up per budget, and an approval must satisfy every rule that asked for one: the
#   approvers whom all of them accept, the largest quorum, the shortest life.
# scope: package
package authzlib.obligations

# METADATA
# title: The obligations of a decision
# description: |
#   Returns one object for a list of obligations. A key that is not known is kept, and then refused with the decision:
#   what a misspelt obligation wanted is not lost.
# scope: document
merged(asked) := {key: _merge(key, values) |
	some key in {key | some obligations in asked; some key, _ in obligations}
	values := [obligations[key] | some obligations in asked]
}

# METADATA
# title: Obligations that can all be met
# description: |
#   Is false where nobody could approve for all the rules that ask for approval, or where two rules set one header to
#   different values.
# scope: document
compatible(asked) if {
	approvals := [obligations.approval | some obligations in asked]
	_approvable(approvals)
	settings := {[lower(name), value] | some obligations in asked; some name, value in obligations.headers.set}
	count({name | some [name, _] in settings}) == count(settings)
}

_merge("redactions", lists) := [redaction | some redaction in {item | some list in lists; some item in list}]

_merge("approval", approvals) := {
	"approvers": [group | some group in _approvers(approvals)],
	"quorum": max([approval.quorum | some approval in approvals]),
	"ttl_s": min([approval.ttl_s | some approval in approvals]),
}

_merge("charges", lists) := [{"budget": budget, "amount": sum(amounts)} |
	some budget in {charge.budget | some list in lists; some charge in list}
	amounts := [charge.amount | some list in lists; some charge in list; charge.budget == budget]
]

_merge("headers", changes) := {
	"set": object.union_n([change.set | some change in changes]),
	"remove": [name | some name in {item | some change in changes; some item in change.remove}],
}

_merge("tags", tags) := object.union_n(tags)

_merge(key, values) := values if not key in {"redactions", "approval", "charges", "headers", "tags"}

_approvers(approvals) := intersection({{group | some group in approval.approvers} | some approval in approvals})

_approvable([])

_approvable(approvals) if count(_approvers(approvals)) > 0
