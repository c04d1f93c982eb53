# METADATA
# title: An order API behind opa-envoy-plugin
# description: |
#   Written as users of opa-envoy-plugin write it, for its input and its result. `allow` is the plain form; `result` is
#   the object form of the same decision, with what Envoy should tell the service or the caller. Serve either:
#   `authz serve --contract envoy --policy bundles/envoy-compat --entrypoint envoy/authz/allow` (or `.../result`).
# scope: package
package envoy.authz

_http := input.attributes.request.http

_caller := input.attributes.source.principal

default allow := false

# METADATA
# title: May this request pass?
# entrypoint: true
allow if {
	_http.method == "GET"
	input.parsed_path == ["health"]
}

allow if {
	_http.method == "GET"
	_is_order
	_caller in data.orders.readers
}

# The plugin leaves `parsed_body` null for a body it saw only in part. This rule needs the quantity, so that a cut body
# is refused even without the last line; a rule that only forbids would let it through.
allow if {
	_http.method == "POST"
	input.parsed_path == ["orders"]
	_caller in data.orders.writers
	is_number(input.parsed_body.quantity)
	input.parsed_body.quantity > 0
	input.parsed_body.quantity <= data.orders.largest_quantity
	input.truncated_body == false
}

_is_order if {
	[collection, id] := input.parsed_path
	collection == "orders"
	regex.match(`^[0-9]+$`, id)
}

# METADATA
# title: The same decision, with headers, status and body
# entrypoint: true
result := {
	"allowed": true,
	"headers": {"x-caller": object.get(input.attributes, ["source", "principal"], "anonymous")},
	"request_headers_to_remove": ["x-debug"],
	"response_headers_to_add": {"cache-control": "no-store"},
	"query_parameters_to_remove": ["debug"],
	"dynamic_metadata": {"rule": "orders"},
} if {
	allow
} else := {
	"allowed": false,
	"http_status": 403,
	"headers": {"content-type": "application/json"},
	"body": json.marshal({"error": "forbidden"}),
	"dynamic_metadata": {"rule": "default"},
}
