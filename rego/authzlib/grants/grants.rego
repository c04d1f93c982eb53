# METADATA
# title: Grants of tools to agents
# description: |
#   A grant table is `{agent: {server: [tool, ...]}}`; take one table per tenant, so that nothing crosses tenants. A
#   tool is known by server *and* name, so a grant on one server never covers a namesake on another. Agents, servers and
#   tools may be written as patterns, of which there are three kinds and no others: the exact name; `*`, which is any
#   name; and a prefix that ends in `/*` or `.*`, which is everything below that prefix. A `*` elsewhere is an ordinary
#   character: `read_*` does not cover `read_document`. Names are compared byte for byte.
# scope: package
package authzlib.grants

# METADATA
# title: A tool that is granted to an agent
# description: Is true when the table grants the tool `{server, name}` to the agent with that id.
# scope: document
covers(table, agent, tool) if tool.name in table[agent][tool.server]

covers(table, agent, tool) if {
	some agent_pattern in patterns(agent)
	some server_pattern in patterns(tool.server)
	some granted in table[agent_pattern][server_pattern]
	granted in patterns(tool.name)
}

# METADATA
# title: The patterns that cover a name
# description: |
#   Returns every pattern that covers the name: a finite set, so that a table is looked up and not searched. The empty
#   name and anything but a string have none.
# scope: document
patterns(name) := {name, "*"} if {
	is_string(name)
	name != ""
	not regex.match(`[./]`, name)
}

patterns(name) := {name, "*"} | {concat("", [substring(name, 0, position + 1), "*"]) | some position in positions} if {
	is_string(name)
	regex.match(`[./]`, name)
	last := count(name) - 1
	positions := {position |
		some separator in {".", "/"}
		some position in indexof_n(name, separator)
		position < last
	}
}

# METADATA
# title: Patterns that do not mean what they seem to
# description: |
#   Returns the patterns of a table with a `*` that is no wildcard. A policy's tests should hold this to be empty.
# scope: document
misleading(table) := {pattern |
	some agent, servers in table
	some server, tools in servers
	some pattern in ({agent, server} | {tool | some tool in tools})
	contains(pattern, "*")
	not regex.match(`^(?:[^*]*[./])?\*$`, pattern)
}
