# Contract `agent`: who calls is what a verified token says.
package authz

import data.bench.grants
import rego.v1

default decision := {"effect": "deny", "reason": "not_granted", "risk": "write"}

decision := {"effect": "allow", "reason": "granted", "rules": ["bench.grants.allowed"], "risk": "write"} if {
	grants.allowed(input.agent.tenant, input.agent.id, input.tool.name, input.args)
}
