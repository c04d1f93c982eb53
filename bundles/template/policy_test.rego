package authz.policy_test

import data.authz
import data.authzlib.grants

tenants := {"acme": {"grants": {"agent-1": {"default": ["echo"]}}}}

request(phase, method, change) := object.union(
	{
		"version": 1,
		"phase": phase,
		"agent": {"id": "agent-1", "tenant": "acme", "subject": "agent-1"},
		"tool": {"server": "default", "name": "echo", "protocol": "mcp", "method": method},
		"args": {},
	},
	change,
)

decide(asked) := decision if {
	decision := authz.decision with input as asked with data.tenants as tenants with data.risks as {}
}

test_success_allow[note] if {
	some note, asked in {
		"granted tool": request("call", "tools/call", {}),
		"granted tool in the list": request("list", "tools/list", {}),
		"list of tools": request("call", "tools/list", {"tool": {"name": ""}}),
		"result": request("result", "tools/call", {"result": {"content": []}}),
	}
	decide(asked).effect == "allow"
}

test_fail_deny[note] if {
	some note, asked in {
		"other tool": request("call", "tools/call", {"tool": {"name": "delete"}}),
		"other agent": request("call", "tools/call", {"agent": {"id": "agent-2"}}),
		"other tenant": request("call", "tools/call", {"agent": {"tenant": "umbrella"}}),
		"list of another tenant": request("call", "tools/list", {"agent": {"tenant": "umbrella"}}),
		"namesake on another server": request("call", "tools/call", {"tool": {"server": "other"}}),
		"tool in another case": request("call", "tools/call", {"tool": {"name": "Echo"}}),
		"other tool in the list": request("list", "tools/list", {"tool": {"name": "delete"}}),
		"method without a rule": request("call", "prompts/get", {"tool": {"name": "greeting"}}),
	}
	decide(asked).effect == "deny"
}

test_success_unknown_tools_are_destructive if decide(request("call", "tools/call", {})).risk == "destructive"

test_success_grants_mean_what_they_say if {
	every _, tenant in data.tenants {
		count(grants.misleading(tenant.grants)) == 0
	}
}
