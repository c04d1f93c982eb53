# METADATA
# title: Outcomes, what a single rule says
# description: |
#   An outcome is `{effect, rule, reason}` and, as needed, `message`, `mode`, `redactions`, `approval`, `charges`,
#   `headers`, `tags`, shaped as in the decision. Whatever is not exactly that is refused, since a misspelt key or
#   effect would silently lose what its rule wanted to stop.
# scope: package
package authzlib.outcomes

# What an outcome may carry besides `effect`, `rule` and `reason`. Only an effect that narrows the call can be watched.
_optional := {
	"allow": {"message", "charges", "headers", "tags"},
	"deny": {"message", "mode", "tags"},
	"sanitize": {"message", "mode", "redactions", "charges", "headers", "tags"},
	"approval_needed": {"message", "mode", "approval", "charges", "headers", "tags"},
}

# An effect that lacks its obligation would be a weaker effect under a strong name.
_required := {"sanitize": {"redactions"}, "approval_needed": {"approval"}}

# METADATA
# title: A well-formed outcome
# description: Is true when the outcome has a known effect, carries what that effect needs, and nothing unknown.
# scope: document
well_formed(outcome) if {
	is_string(outcome.rule)
	is_string(outcome.reason)
	carried := object.keys(outcome) - {"effect", "rule", "reason"}
	carried - _optional[outcome.effect] == set()
	object.get(_required, outcome.effect, set()) - carried == set()
	every key in carried {
		_valid(key, outcome[key])
	}
}

_valid("message", value) if is_string(value)

_valid("mode", value) if value in {"block", "flag"}

_valid("tags", value) if is_object(value)

_valid("redactions", value) if {
	_is_list(value)
	count(value) > 0
	every redaction in value {
		startswith(redaction.path, "/")
		is_string(redaction.replacement)
		object.keys(redaction) - {"path", "pattern", "replacement"} == set()
		is_string(object.get(redaction, "pattern", ""))
	}
}

_valid("approval", value) if {
	_is_list(value.approvers)
	count(value.approvers) > 0
	_is_positive(value.quorum)
	_is_positive(value.ttl_s)
	object.keys(value) == {"approvers", "quorum", "ttl_s"}
}

_valid("charges", value) if {
	_is_list(value)
	every charge in value {
		is_string(charge.budget)
		is_number(charge.amount)
		charge.amount >= 0
	}
}

_valid("headers", value) if {
	object.keys(value) - {"set", "remove"} == set()
	every name, content in object.get(value, "set", {}) {
		is_string(name)
		is_string(content)
	}
	every name in object.get(value, "remove", []) {
		is_string(name)
	}
}

_is_list(value) if is_array(value)

_is_list(value) if is_set(value)

_is_positive(value) if {
	is_number(value)
	value > 0
}
