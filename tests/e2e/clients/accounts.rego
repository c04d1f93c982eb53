# An HTTP API as a policy sees it: path templates, queries and bodies are arguments like those of any tool.
package authz

default decision := {"effect": "deny", "reason": "not_granted", "message": "This account is not yours."}

decision := {"effect": "allow", "reason": "granted"} if {
	_granted
	not _card
}

decision := {
	"effect": "sanitize",
	"reason": "card_redacted",
	"redactions": [{"path": "/body/note", "pattern": _pattern, "replacement": "[CARD]"}],
} if {
	_granted
	_card
}

_pattern := `[0-9]{4} [0-9]{4} [0-9]{4} [0-9]{4}`

_card if regex.match(_pattern, input.args.body.note)

_granted if {
	input.tool.name in {"GET /accounts/{id}", "HEAD /accounts/{id}", "OPTIONS /accounts/{id}"}
	startswith(input.args.path.id, "mine-")
}

_granted if {
	input.tool.name in {"PUT /accounts/{id}", "PATCH /accounts/{id}"}
	input.args.body.limit <= 100
}

_granted if {
	input.tool.name == "GET /search"
	input.args.query.q == "a b&c"
}

_granted if {
	input.tool.name == "POST /transfers"
	to_number(input.args.body.amount) <= 100
}

_granted if input.tool.name in {"GET /large", "GET /feed"}
