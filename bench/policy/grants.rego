# The rule that every program under test evaluates: a grant for this tenant, agent and tool, and no argument that looks
# like a secret. Each contract reads the call from its own input and asks here.
package bench.grants

import rego.v1

suspicious := `(?i)(api[_-]?key|password|BEGIN [A-Z ]*PRIVATE KEY|\b\d{3}-\d{2}-\d{4}\b)`

allowed(tenant, agent, tool, arguments) if {
	grant := data.grants[tenant][agent][tool]
	not oversteps(grant, arguments)
	not carries_secret(arguments)
}

oversteps(grant, arguments) if arguments.amount > grant.most

carries_secret(arguments) if {
	walk(arguments, [_, value])
	is_string(value)
	regex.match(suspicious, value)
}
