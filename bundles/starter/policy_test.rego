package authz.policy_test

import data.authz
import data.authzlib.grants

call(agent, tool, args) := {
	"version": 1,
	"phase": "call",
	"agent": {"id": agent, "tenant": "acme", "subject": agent, "session": "s-1", "scopes": [], "parents": []},
	"tool": {"server": "default", "name": tool, "protocol": "mcp", "method": "tools/call"},
	"args": args,
	"time": {"rfc3339": "2026-11-20T10:00:00Z", "unix_ns": 1795168800000000000},
}

payment := {"recipient": "office-supplies", "amount": 250, "currency": "EUR", "memo": "paper"}

email := {"to": "ann@customer.example", "subject": "Your order", "body": "It is on its way."}

paying(change) := call("billing-agent", "transfer_payment", object.union(payment, change))

mailing(change) := call("support-agent", "send_email", object.union(email, change))

reading(path) := call("research-agent", "read_document", {"path": path})

asking(method, name) := object.union(
	call("research-agent", name, {}),
	{"tool": {"method": method}},
)

listing(agent, tool) := object.union(
	object.remove(call(agent, tool, {}), ["args"]),
	{"phase": "list"},
)

returning(result) := object.union(reading("/docs/plan.txt"), {"phase": "result", "result": result})

test_success_allow[note] if {
	some note, request in {
		"read_document": reading("/docs/plan.txt"),
		"search_web": call("research-agent", "search_web", {"query": "weather in Oslo"}),
		"payment": paying({}),
		"payment at the approval limit": paying({"amount": 1000}),
		"email": mailing({}),
		"email to several": mailing({"to": ["ann@customer.example", "bob@acme.example"]}),
		"tools/list": asking("tools/list", ""),
		"legacy stream": asking("stream/open", ""),
		"resource": asking("resources/read", "file:///docs/plan.txt"),
		"listed tool": listing("research-agent", "read_document"),
		"harmless result": returning({"content": [{"type": "text", "text": "hello"}]}),
	}
	decision := authz.decision with input as request
	decision.effect == "allow"
	decision.mode == "block"
}

test_success_approval[amount] if {
	some amount in {1000.01, 5000, 10000}
	decision := authz.decision with input as paying({"amount": amount})
	decision.effect == "approval_needed"
	decision.reason == "payment_needs_approval"
	decision.approval == {"approvers": ["finance"], "quorum": 1, "ttl_s": 900}
}

test_success_sanitize if {
	body := "Card 4111 1111 1111 1111, SSN 123-45-6789."
	decision := authz.decision with input as mailing({"body": body, "subject": "SSN 123-45-6789"})
	decision.effect == "sanitize"
	{[item.path, item.replacement] | some item in decision.redactions} == {
		["/body", "[REDACTED:payment_card]"],
		["/body", "[REDACTED:ssn]"],
		["/subject", "[REDACTED:ssn]"],
	}
}

test_success_result_is_redacted_relative_to_the_result if {
	decision := authz.decision with input as returning({"content": [{"type": "text", "text": "SSN 123-45-6789"}]})
	decision.effect == "sanitize"
	[item.path | some item in decision.redactions] == ["/content/0/text"]
}

test_success_watched_rule_marks_the_search if {
	decision := authz.decision with input as call("research-agent", "search_web", {"query": "ann@customer.example"})
	decision.effect == "deny"
	decision.mode == "flag"
	decision.reason == "search_names_person"
}

test_success_risk[tool] if {
	some tool, risk in {
		"read_document": "read",
		"search_web": "read",
		"send_email": "write",
		"transfer_payment": "destructive",
		"delete_records": "destructive",
		"unknown": "destructive",
	}
	decision := authz.decision with input as call("research-agent", tool, {})
	decision.risk == risk
}

test_fail_deny[note] if {
	some note, [request, reason] in {
		"document elsewhere": [reading("/etc/passwd"), "path_outside_roots"],
		"document by traversal": [reading("/docs/../etc/passwd"), "path_outside_roots"],
		"g3 path that no string builtin takes": [reading(7), "path_outside_roots"],
		"g3 recipient that no string builtin takes": [mailing({"to": {"a": 1}}), "recipient_not_allowed"],
		"search for nothing": [call("research-agent", "search_web", {}), "no_rule_allows"],
		"g1 path that is a list": [reading(["/docs/plan.txt"]), "path_outside_roots"],
		"payment above the limit": [paying({"amount": 10000.01}), "payment_over_limit"],
		"payment of nothing": [paying({"amount": 0}), "payment_amount_invalid"],
		"negative payment": [paying({"amount": -5}), "payment_amount_invalid"],
		"g1 amount as a string": [paying({"amount": "250"}), "payment_amount_invalid"],
		"unknown recipient": [paying({"recipient": "eve"}), "recipient_not_allowed"],
		"other currency": [paying({"currency": "USD"}), "currency_not_allowed"],
		"email elsewhere": [mailing({"to": "eve@evil.example"}), "recipient_not_allowed"],
		"email with a hidden copy": [mailing({"bcc": "eve@evil.example"}), "recipient_not_allowed"],
		"secret in a key": [mailing({"123-45-6789": "x"}), "recipient_not_allowed"],
		"secret in a result's key": [returning({"rows": [{"123-45-6789": 1}]}), "secret_in_key"],
		"tool of another agent": [call("research-agent", "transfer_payment", payment), "tool_not_granted"],
		"tool of nobody": [call("support-agent", "delete_records", {"table": "t"}), "tool_not_granted"],
		"unknown agent": [call("stranger", "read_document", {"path": "/docs/a"}), "tool_not_granted"],
		"c15 tool in other case": [call("research-agent", "Read_Document", {"path": "/docs/a"}), "tool_not_granted"],
		"hidden tool": [listing("support-agent", "delete_records"), "tool_not_granted"],
		"method without a rule": [asking("prompts/get", "greeting"), "no_rule_allows"],
		"c12 method in other case": [asking("Tools/List", ""), "no_rule_allows"],
		"resource elsewhere": [asking("resources/read", "file:///etc/passwd"), "no_rule_allows"],
		"resource by traversal": [asking("resources/read", "file:///docs/../etc/passwd"), "no_rule_allows"],
		"resource without a scheme": [asking("resources/read", "/docs/plan.txt"), "no_rule_allows"],
		"prompt with the name of a tool": [
			object.union(asking("prompts/get", "read_document"), {"args": {"path": "/docs/plan.txt"}}),
			"no_rule_allows",
		],
		"resource of another scheme": [asking("resources/read", "https:///docs/plan.txt"), "no_rule_allows"],
		"resource without a grant": [
			object.union(asking("resources/read", "file:///docs/a"), {"agent": {"id": "billing-agent"}}),
			"no_rule_allows",
		],
	}
	decision := authz.decision with input as request
	decision.effect == "deny"
	decision.mode == "block"
	decision.reason == reason
}

test_fail_other_tenant[note] if {
	some note, request in {
		"call": paying({}),
		"list": listing("research-agent", "read_document"),
		"method": asking("tools/list", ""),
		"result": returning({"content": []}),
	}
	every tenant in {"umbrella", "", "ACME", "acme2"} {
		decision := authz.decision with input as object.union(request, {"agent": {"tenant": tenant}})
		decision.effect == "deny"
		decision.reason == "tenant_not_granted"
	}
}

test_fail_c19_namesake_on_another_server[note] if {
	some note, request in {"call": paying({}), "list": listing("billing-agent", "transfer_payment")}
	decision := authz.decision with input as object.union(request, {"tool": {"server": "other"}})
	decision.effect == "deny"
	decision.reason == "tool_not_granted"
}

# Even where a namesake is granted, the rules of this server's tool do not speak for it.
test_fail_c19_granted_namesake_has_no_rule if {
	decision := authz.decision with input as object.union(paying({}), {"tool": {"server": "other"}})
		with data.tenants.acme.grants as {"billing-agent": {"*": ["transfer_payment"]}}
	decision.effect == "deny"
	decision.reason == "no_rule_allows"
}

test_success_visibility_ignores_arguments[tool] if {
	some tool in {"read_document", "transfer_payment", "delete_records"}
	bare := authz.decision with input as listing("billing-agent", tool)
	every args in [payment, {"path": "/docs/a"}, null] {
		decision := authz.decision with input as object.union(listing("billing-agent", tool), {"args": args})
		decision == bare
	}
}

test_fail_a_listed_tool_is_not_allowed_by_the_method if {
	request := object.union(listing("support-agent", "delete_records"), {"tool": {"method": "tools/list"}})
	decision := authz.decision with input as request
	decision.effect == "deny"
}

test_fail_g4_a_missing_field_widens_no_allow if _widened_by_removal(paying({})) == set()

test_fail_g4_a_missing_field_widens_no_approval if _widened_by_removal(paying({"amount": 5000})) == set()

test_fail_g4_a_missing_field_widens_no_limit if _widened_by_removal(paying({"amount": 50000})) == set()

test_fail_g4_a_missing_field_widens_no_path if _widened_by_removal(reading("/etc/passwd")) == set()

test_fail_g4_a_missing_field_widens_no_recipient if _widened_by_removal(mailing({"to": "eve@evil.example"})) == set()

test_fail_g4_a_missing_field_widens_no_tenant if {
	_widened_by_removal(object.union(paying({}), {"agent": {"tenant": "umbrella"}})) == set()
}

# Without the text that was redacted there is nothing to redact: that alone may pass.
test_fail_g4_a_missing_field_widens_no_redaction if {
	_widened_by_removal(mailing({"body": "4111 1111 1111 1111"})) == {["args", "body"]}
}

test_fail_g4_a_missing_field_widens_no_result_of_another_tool if {
	request := object.union(returning({"content": []}), {"tool": {"name": "delete_records"}})
	_widened_by_removal(request) == set()
}

test_fail_g4_a_missing_field_widens_no_refused_result if {
	_widened_by_removal(returning({"123-45-6789": 1})) == {["result"], ["result", "123-45-6789"]}
}

# The paths of those fields without which the decision is wider than with them.
_widened_by_removal(request) := {path |
	before := _effect with input as request
	walk(request, [path, _])
	count(path) > 0
	after := _effect with input as json.remove(request, [path])
	_rank[after] < _rank[before]
}

# An undefined decision is a denial (POLICY_UNDEFINED).
_effect := effect if {
	effect := authz.decision.effect
} else := "deny"

_rank := {"allow": 0, "sanitize": 1, "approval_needed": 2, "deny": 3}

test_fail_g4_empty_input_denies if {
	decision := authz.decision with input as {}
	decision.effect == "deny"
}

test_fail_f13_blank_data_denies[note] if {
	some note, tenants in {
		"no tenants": {},
		"a blank tenant": {"acme": {}},
		"null grants": {"acme": {"grants": null}},
		"grants alone": {"acme": {"grants": {"billing-agent": {"default": ["transfer_payment"]}}}},
	}
	decision := authz.decision with input as paying({}) with data.tenants as tenants
	decision.effect == "deny"
}

test_success_the_grants_say_what_they_seem_to[tenant] if {
	some tenant, terms in data.tenants
	grants.misleading(terms.grants) == set()
}
