# Contract `envoy`: who calls is what two headers say. It runs unchanged under opa-envoy-plugin.
package envoy.authz

import data.bench.grants
import rego.v1

default allow := false

allow if {
	headers := input.attributes.request.http.headers
	call := input.parsed_body.params
	grants.allowed(headers["x-tenant"], headers["x-agent"], call.name, call.arguments)
}
