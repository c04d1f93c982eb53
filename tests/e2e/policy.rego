# What the tests of Envoy are judged by: small, and different from the starter policy on purpose.
package authz

_allow := {"effect": "allow", "reason": "granted", "risk": "read"}

decision := _answer[_kind]

_answer := {
	"allow": _allow,
	"deny": {"effect": "deny", "reason": "not_granted"},
	"sanitize": {"effect": "sanitize", "reason": "card", "redactions": _redactions},
	"redact": {"effect": "sanitize", "reason": "card", "redactions": [{"path": "", "pattern": _card, "replacement": "[CARD]"}]},
}

_card := `[0-9]{4} [0-9]{4} [0-9]{4} [0-9]{4}`

_redactions := [{"path": "/note", "pattern": _card, "replacement": object.get(input, ["args", "replacement"], "[CARD]")}]

default _kind := "deny"

_kind := "redact" if input.result

_kind := "allow" if {
	input.phase == "list"
	input.tool.name != "delete"
}

_kind := "allow" if {
	input.phase == "call"
	not _has_card
	not startswith(input.tool.name, "delete")
	input.agent.id == "agent"
}

_kind := "sanitize" if {
	input.phase == "call"
	_has_card
}

_has_card if regex.match(_card, input.args.note)

_has_card if regex.match(_card, input.args.body.note)
