package envoy.authz.policy_test

import data.envoy.authz

support := "spiffe://acme.example/agent/support"

billing := "spiffe://acme.example/agent/billing"

request(method, path, principal) := {
	"attributes": {
		"source": {"principal": principal},
		"request": {"http": {"method": method, "path": concat("", ["/", concat("/", path)])}},
	},
	"parsed_path": path,
	"parsed_query": {},
	"parsed_body": null,
	"truncated_body": false,
	"version": {"ext_authz": "v3", "encoding": "protojson"},
}

order(change) := object.union(request("POST", ["orders"], billing), change)

test_success_allow[note] if {
	some note, document in {
		"health": request("GET", ["health"], ""),
		"health without a certificate": json.remove(request("GET", ["health"], ""), ["/attributes/source"]),
		"reader": request("GET", ["orders", "17"], support),
		"writer": order({"parsed_body": {"quantity": 100}}),
	}
	authz.allow with input as document
}

test_fail_allow[note] if {
	some note, document in {
		"stranger": request("GET", ["orders", "17"], "spiffe://evil.example/agent/support"),
		"no certificate": request("GET", ["orders", "17"], ""),
		"other path": request("GET", ["admin"], billing),
		"below an order": request("GET", ["orders", "17", "notes"], billing),
		"id that is no number": request("GET", ["orders", "17x"], billing),
		"method": request("DELETE", ["orders", "17"], billing),
		"c12 method in lower case": request("get", ["health"], ""),
		"reader who writes": object.union(request("POST", ["orders"], support), {"parsed_body": {"quantity": 1}}),
		"quantity above the limit": order({"parsed_body": {"quantity": 101}}),
		"negative quantity": order({"parsed_body": {"quantity": -1}}),
		"g1 quantity as a string": order({"parsed_body": {"quantity": "1"}}),
		"c23 body that was not parsed": order({"parsed_body": null}),
		"a5 truncated body": order({"parsed_body": null, "truncated_body": true}),
		"a5 truncated body that parses": order({"parsed_body": {"quantity": 1}, "truncated_body": true}),
		"g4 truncation unknown": object.remove(order({"parsed_body": {"quantity": 1}}), ["truncated_body"]),
		"g4 empty input": {},
	}
	not authz.allow with input as document
}

test_success_result if {
	result := authz.result with input as request("GET", ["orders", "17"], support)
	result.allowed
	result.headers == {"x-caller": support}
	result.request_headers_to_remove == ["x-debug"]
}

test_success_result_without_a_certificate if {
	document := json.remove(request("GET", ["health"], ""), ["/attributes/source"])
	result := authz.result with input as document
	result.headers == {"x-caller": "anonymous"}
}

test_fail_result if {
	result := authz.result with input as request("DELETE", ["orders", "17"], billing)
	result.allowed == false
	result.http_status == 403
	json.unmarshal(result.body) == {"error": "forbidden"}
	object.keys(result) & {"request_headers_to_remove", "response_headers_to_add"} == set()
}

test_fail_result_g4_empty_input if {
	result := authz.result with input as {}
	result.allowed == false
}
