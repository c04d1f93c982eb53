# What the tests with real clients are judged by: one outcome of each kind, by the tool's name.
package authz

decision := _outcome[_kind]

_outcome := {
	"allow": {"effect": "allow", "reason": "granted", "risk": "read"},
	"deny": {"effect": "deny", "reason": "not_granted", "message": "Ask for something else."},
	"approval_needed": {
		"effect": "approval_needed",
		"reason": "payment_needs_approval",
		"message": "A payment of this size needs the approval of finance.",
		"approval": {"approvers": ["finance"], "quorum": 1, "ttl_s": 900},
	},
	"sanitize": {
		"effect": "sanitize",
		"reason": "card_redacted",
		"redactions": [{"path": _path, "pattern": _card, "replacement": "[CARD]"}],
	},
}

_card := `[0-9]{4} [0-9]{4} [0-9]{4} [0-9]{4}`

default _kind := "deny"

_kind := "sanitize" if {
	input.agent.id == "agent"
	_path != null
} else := "approval_needed" if {
	input.phase == "call"
	input.tool.name == "pay"
	input.args.amount > 1000
} else := "allow" if {
	input.agent.id == "agent"
	not input.tool.name in {"delete", "get-env"}
}

# Where the text is that may hold a card number.
default _path := null

_path := "" if input.result

_path := "/text" if {
	input.phase == "call"
	regex.match(_card, input.args.text)
}

_path := "/message" if {
	input.phase == "call"
	regex.match(_card, input.args.message)
}
