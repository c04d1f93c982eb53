# METADATA
# title: Starter policy
# description: |
#   Three agents of one tenant and five tools. Each rule adds one outcome; the library makes the decision of them: deny
#   beats approval_needed beats sanitize beats allow, and what no rule allows is denied.
# scope: package
# schemas:
#   - input: schema.input
package authz

import data.authzlib.arguments
import data.authzlib.combining
import data.authzlib.detectors
import data.authzlib.grants
import data.authzlib.paths
import data.authzlib.redaction
import data.authzlib.visibility

# METADATA
# title: The decision on a call, a listed tool or a result
# entrypoint: true
decision := combining.decide(outcomes, _risk)

_tenant := data.tenants[input.agent.tenant]

_granted if grants.covers(_tenant.grants, input.agent.id, input.tool)

# The argument rules below speak of tools on the server `default`: a namesake elsewhere has no rule, hence no allow.
_call if {
	input.phase == "call"
	input.tool.method == "tools/call"
	input.tool.server == "default"
	_granted
}

_risk := risk if {
	risk := data.risks[input.tool.server][input.tool.name]
} else := "read" if {
	_names_only
} else := "destructive"

# Methods other than tools/call that every agent of a known tenant may use: they show names and change nothing.
_names_only if {
	input.tool.method in {
		"tools/list",
		"resources/list",
		"resources/templates/list",
		"prompts/list",
		"stream/open",
		"session/delete",
	}
}

# Who may call at all

# METADATA
# title: What the rules have to say
# scope: document
outcomes contains {
	"effect": "deny",
	"rule": "tenants",
	"reason": "tenant_not_granted",
	"message": "This tenant has no grants here.",
} if {
	not _tenant
}

outcomes contains {
	"effect": "deny",
	"rule": "grants",
	"reason": "tool_not_granted",
	"message": "This tool is not granted to this agent.",
} if {
	not _granted
	_names_tool
	_tenant
}

_names_tool if input.phase == "list"

_names_tool if input.tool.method == "tools/call"

# Which tools an agent sees

outcomes contains {"effect": "allow", "rule": "visibility", "reason": "tool_granted"} if {
	input.phase == "list"
	visibility.visible(_tenant.grants)
}

# Methods that are not tools

outcomes contains {"effect": "allow", "rule": "methods", "reason": "method_allowed"} if {
	_names_only
	input.phase == "call"
	_tenant
}

outcomes contains {"effect": "allow", "rule": "resources", "reason": "document_in_root"} if {
	input.phase == "call"
	input.tool.method == "resources/read"
	grants.covers(_tenant.grants, input.agent.id, {"server": input.tool.server, "name": "read_document"})
	startswith(input.tool.name, "file://")
	paths.confined(trim_prefix(input.tool.name, "file://"), _tenant.documents.roots)
}

# What comes back: the call has been judged, so its result passes, without what nobody should read

_sensitive := detectors.secrets | {"payment_card", "iban", "ssn"}

outcomes contains {"effect": "allow", "rule": "results", "reason": "result_of_judged_call"} if {
	input.phase == "result"
	_tenant
	_judged
}

_judged if _granted

_judged if _names_only

_judged if input.tool.method == "resources/read"

outcomes contains {
	"effect": "sanitize",
	"rule": "results",
	"reason": "result_redacted",
	"message": "Card and account numbers, social security numbers and secrets were redacted.",
	"obligations": {"redactions": redactions},
} if {
	input.phase == "result"
	redactions := redaction.plan(input.result, _sensitive)
	count(redactions) > 0
}

outcomes contains {
	"effect": "deny",
	"rule": "results",
	"reason": "secret_in_key",
	"message": "The result holds a sensitive value in the name of a field, where it cannot be redacted.",
} if {
	input.phase == "result"
	redaction.unredactable(input.result, _sensitive)
}

# Research: read_document and search_web

outcomes contains {"effect": "allow", "rule": "documents", "reason": "document_in_root"} if {
	input.tool.name == "read_document"
	_document_proved
}

outcomes contains {
	"effect": "deny",
	"rule": "documents",
	"reason": "path_outside_roots",
	"message": "Documents are read below the shared folders only.",
} if {
	input.tool.name == "read_document"
	not _document_proved
	_call
}

_document_proved if {
	_call
	paths.confined(input.args.path, _tenant.documents.roots)
}

outcomes contains {"effect": "allow", "rule": "search", "reason": "search_granted"} if {
	input.tool.name == "search_web"
	_call
	is_string(input.args.query)
}

# A rule that is only watched: the search runs, and its record is marked for review.
outcomes contains {
	"effect": "deny",
	"mode": "flag",
	"rule": "search",
	"reason": "search_names_person",
	"message": "The search query holds an e-mail address.",
} if {
	input.tool.name == "search_web"
	_call
	count(redaction.plan(input.args, {"email"})) > 0
}

# Billing: transfer_payment

outcomes contains {"effect": "allow", "rule": "payments", "reason": "payment_within_limit"} if {
	input.tool.name == "transfer_payment"
	_payment_proved
}

outcomes contains {
	"effect": "approval_needed",
	"rule": "payments",
	"reason": "payment_needs_approval",
	"message": "A payment of this size needs the approval of finance.",
	"obligations": {"approval": _tenant.payments.approval},
} if {
	input.tool.name == "transfer_payment"
	_payment_proved
	input.args.amount > _tenant.payments.approval_above
}

outcomes contains {"effect": "deny", "rule": "payments", "reason": reason, "message": message} if {
	input.tool.name == "transfer_payment"
	not _payment_proved
	_call
	some reason, message in _payment_faults
}

_payment_proved if {
	_call
	terms := _tenant.payments
	arguments.number_within(input.args, "amount", 0, terms.limit)
	input.args.recipient in terms.recipients
	input.args.currency == terms.currency
}

# What the proof may lack, for the answer. It decides nothing: without the proof there is no allow.
_payment_faults["payment_amount_invalid"] := "The amount must be a number above zero." if {
	not arguments.number_above(input.args, "amount", 0)
}

_payment_faults["payment_over_limit"] := "The payment is above the limit of this tenant." if {
	arguments.number_above(input.args, "amount", _tenant.payments.limit)
}

_payment_faults["recipient_not_allowed"] := "Payments go to known recipients only." if {
	not arguments.listed(input.args, "recipient", _tenant.payments.recipients)
}

_payment_faults["currency_not_allowed"] := "Payments are made in the currency of this tenant only." if {
	not arguments.listed(input.args, "currency", [_tenant.payments.currency])
}

# Support: send_email

outcomes contains {"effect": "allow", "rule": "email", "reason": "email_to_known_domain"} if {
	input.tool.name == "send_email"
	_recipients_proved
}

outcomes contains {
	"effect": "deny",
	"rule": "email",
	"reason": "recipient_not_allowed",
	"message": "E-mail goes to known domains only.",
} if {
	input.tool.name == "send_email"
	not _recipients_proved
	_call
}

_recipients_proved if {
	_call
	arguments.only(input.args, {"to", "subject", "body"})
	arguments.addressed(input.args, "to", _tenant.email.domains)
}

outcomes contains {
	"effect": "sanitize",
	"rule": "email",
	"reason": "email_redacted",
	"message": "Card and account numbers, social security numbers and secrets were redacted.",
	"obligations": {"redactions": redactions},
} if {
	input.tool.name == "send_email"
	_call
	redactions := redaction.plan(input.args, _sensitive)
	count(redactions) > 0
}

outcomes contains {
	"effect": "deny",
	"rule": "email",
	"reason": "secret_in_key",
	"message": "A sensitive value stands in the name of an argument, where it cannot be redacted.",
} if {
	input.tool.name == "send_email"
	_call
	redaction.unredactable(input.args, _sensitive)
}
