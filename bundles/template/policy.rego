# METADATA
# title: Policy
# description: |
#   Each rule adds one outcome, and the library makes the decision of them: deny beats approval_needed beats sanitize
#   beats allow, and what no rule allows is denied. Who may call what stands in data.yaml.
# scope: package
# schemas:
#   - input: schema.input
package authz

import data.authzlib.combining
import data.authzlib.grants
import data.authzlib.visibility

# METADATA
# title: The decision on a call, a listed tool or a result
# entrypoint: true
decision := combining.decide(outcomes, _risk)

_tenant := data.tenants[input.agent.tenant]

_granted if grants.covers(_tenant.grants, input.agent.id, input.tool)

_risk := risk if {
	risk := data.risks[input.tool.server][input.tool.name]
} else := "read" if {
	_names_only
} else := "destructive"

# Methods that show names and change nothing.
_names_only if input.tool.method in {"tools/list", "prompts/list", "resources/list", "stream/open", "session/delete"}

# METADATA
# title: What the rules have to say
# scope: document
outcomes contains {
	"effect": "deny",
	"rule": "grants",
	"reason": "tool_not_granted",
	"message": "This tool is not granted to this agent.",
} if {
	not _granted
	not _names_only
}

# A granted tool may be called with any arguments. Ask more of them here: docs/policy-library.md has what it takes.
outcomes contains {"effect": "allow", "rule": "grants", "reason": "tool_granted"} if {
	input.phase == "call"
	input.tool.method == "tools/call"
	_granted
}

outcomes contains {"effect": "allow", "rule": "visibility", "reason": "tool_granted"} if {
	input.phase == "list"
	visibility.visible(_tenant.grants)
}

outcomes contains {"effect": "allow", "rule": "methods", "reason": "method_allowed"} if {
	input.phase == "call"
	_names_only
	_tenant
}

# The call was judged before it ran; what it returned is its result.
outcomes contains {"effect": "allow", "rule": "results", "reason": "result_of_judged_call"} if {
	input.phase == "result"
	_granted
}
