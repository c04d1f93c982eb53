# Compiled from policies/ by `authz policy compile`. Edit those, and compile again.

# METADATA
# title: Policy
# description: |
#   Each rule adds one outcome, and the library makes the decision of them: deny beats approval_needed beats sanitize
#   beats allow, and what no rule allows is denied.
# scope: package
# schemas:
#   - input: schema.input
package authz

import data.authzlib.combining
import data.authzlib.conditions
import data.authzlib.grants
import data.authzlib.redaction

# METADATA
# title: The decision on a call, a listed tool or a result
# entrypoint: true
decision := combining.decide(outcomes, _yaml_risk)

# policies/payments.yaml:3

# METADATA
# title: What the rules have to say
# scope: document
outcomes contains {
	"effect": "allow",
	"rule": "payments/small",
	"source": "policies/payments.yaml:3",
	"reason": "payment_within_limit",
} if {
	input.phase == "call"
	input.tool.server == "default"
	input.tool.name == "transfer_payment"
	_yaml_call
	input.agent.tenant == "acme"
	{"billing-agent", "team/*"} & grants.patterns(input.agent.id) != set()
	conditions.above(input.args.amount, 0)
	conditions.at_most(input.args.amount, 10000)
	conditions.one_of(input.args.currency, {"EUR"})
	_yaml_payments__small__1
	_yaml_payments__small__2
}

outcomes contains {
	"effect": "allow",
	"rule": "payments/small",
	"source": "policies/payments.yaml:3",
	"reason": "payment_within_limit",
} if {
	input.phase == "list"
	input.tool.server == "default"
	input.tool.name == "transfer_payment"
	input.agent.tenant == "acme"
	{"billing-agent", "team/*"} & grants.patterns(input.agent.id) != set()
}

_yaml_payments__small__1 if conditions.matches(input.args.memo, [`^[\w ]+$`])

_yaml_payments__small__1 if conditions.present(input, ["args", "memo"]) == false

_yaml_payments__small__2 if conditions.one_of(input.args.recipient, {"office-supplies"})

_yaml_payments__small__2 if conditions.equals(input.args.urgent, true) == false

# policies/payments.yaml:15
outcomes contains {
	"effect": "approval_needed",
	"rule": "payments/large",
	"source": "policies/payments.yaml:15",
	"reason": "large",
	"obligations": {"approval": {"approvers": ["finance"], "quorum": 1, "ttl_s": 900}},
} if {
	input.phase == "call"
	input.tool.name == "transfer_payment"
	_yaml_call
	not _yaml_payments__large__spared
}

outcomes contains {
	"effect": "approval_needed",
	"rule": "payments/large",
	"source": "policies/payments.yaml:15",
	"reason": "large",
	"obligations": {"approval": {"approvers": ["finance"], "quorum": 1, "ttl_s": 900}},
} if {
	input.phase == "call"
	input.tool.server == "crm"
	{"x", "y.*"} & grants.patterns(input.tool.name) != set()
	_yaml_call
	not _yaml_payments__large__spared
}

_yaml_payments__large__spared if conditions.above(input.args.amount, 1000) == false

_yaml_payments__large__spared if conditions.within_hours(input.time.unix_ns, {"days": {"Monday", "Tuesday", "Wednesday", "Thursday", "Friday"}, "from": 1080, "to": 480, "zone": "Europe/Berlin"}) == false

# policies/payments.yaml:22
outcomes contains {
	"effect": "sanitize",
	"rule": "payments/clean",
	"source": "policies/payments.yaml:22",
	"reason": "clean",
	"obligations": {"redactions": redactions},
} if {
	input.phase == "call"
	input.tool.name == "transfer_payment"
	_yaml_call
	redactions := array.concat(conditions.redactions_in(input.args, [{"path": "/memo", "replacement": "x", "pattern": `\d+`}]), redaction.plan(input.args, {"assigned_secret", "aws_access_key", "bearer_token", "github_token", "jwt", "private_key", "slack_token"}))
	count(redactions) > 0
}

outcomes contains {
	"effect": "deny",
	"rule": "payments/clean",
	"source": "policies/payments.yaml:22",
	"reason": "secret_in_key",
	"message": "A sensitive value stands in the name of a field, where it cannot be redacted.",
} if {
	input.phase == "call"
	input.tool.name == "transfer_payment"
	_yaml_call
	redaction.unredactable(input.args, {"assigned_secret", "aws_access_key", "bearer_token", "github_token", "jwt", "private_key", "slack_token"})
}

# policies/payments.yaml:26
outcomes contains {
	"effect": "deny",
	"mode": "flag",
	"rule": "payments/burst",
	"source": "policies/payments.yaml:26",
	"reason": "burst",
	"message": "Too many calls.",
} if {
	input.phase == "call"
	_yaml_call
	_yaml_risk in {"write", "destructive"}
	not _yaml_payments__burst__spared
}

_yaml_payments__burst__spared if conditions.above(input.facts.session.rates.calls["60"], 20) == false

# policies/payments.yaml:32
outcomes contains {
	"effect": "allow",
	"rule": "payments/results",
	"source": "policies/payments.yaml:32",
	"reason": "results",
} if {
	input.phase == "result"
	input.tool.server == "default"
	_yaml_call
	input.agent.tenant == "acme"
	conditions.present(input, ["result", "secret"]) == false
}

# Who may call something may ask what there is.
outcomes contains {"effect": "allow", "rule": "methods", "reason": "method_allowed"} if {
	input.phase in {"call", "result"}
	_yaml_names_only
	input.agent.tenant == "acme"
}

_yaml_risk := risk if {
	risk := data.risks[input.tool.server][input.tool.name]
} else := "read" if {
	_yaml_names_only
} else := "destructive"

# Methods that show names and change nothing.
_yaml_names_only if {
	input.tool.method in {
		"tools/list",
		"resources/list",
		"resources/templates/list",
		"prompts/list",
		"stream/open",
		"session/delete",
	}
}

_yaml_call if input.tool.method == "tools/call"

_yaml_call if input.tool.protocol == "http"
