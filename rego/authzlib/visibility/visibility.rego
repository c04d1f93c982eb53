# METADATA
# title: Visibility of tools in a list
# description: |
#   Before an agent sees a list of tools, the policy is asked about each of them with `phase: list`. There is no call
#   yet, hence there are no arguments: an answer that depended on them would be guesswork.
# scope: package
# schemas:
#   - input: schema.input
package authzlib.visibility

import data.authzlib.grants

# METADATA
# title: A listed tool that the agent may see
# description: Is true in phase `list` when the table (`authzlib.grants`) grants the tool to the agent.
# scope: document
visible(table) if {
	input.phase == "list"
	grants.covers(table, input.agent.id, input.tool)
}
