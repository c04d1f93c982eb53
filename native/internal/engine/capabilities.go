package engine

import (
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Contract names a set of rules that policies are held to (design §7, contracts §4 and §5).
type Contract string

const (
	// Agent is our own: deterministic builtins only, a failing builtin fails the decision, strict compilation.
	Agent Contract = "agent"
	// Envoy is opa-envoy-plugin's: every builtin, failing builtins are undefined.
	Envoy Contract = "envoy"
)

func (c Contract) strict() bool { return c == Agent }

// capabilities is what the compiler lets a policy name. A builtin that is not in it does not exist for the policy, so
// `with` cannot bring it back either.
func (c Contract) capabilities() *ast.Capabilities {
	all := ast.CapabilitiesForThisVersion()
	if c == Agent {
		all.Builtins = slices.DeleteFunc(all.Builtins, undecidable)
		all.AllowNet = []string{}
	}
	return all
}

// undecidable tells whether a builtin's answer depends on anything but its arguments. A decision that used one could
// not be replayed from its record, and one that waits for a network could be stalled from outside.
func undecidable(builtin *ast.Builtin) bool {
	return builtin.Nondeterministic || strings.HasPrefix(builtin.Name, "net.") || builtin.Name == ast.HTTPSend.Name
}
