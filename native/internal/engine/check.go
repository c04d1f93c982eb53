package engine

import (
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/loader"
)

// CheckOptions say what to check, and against which schema of the input (a file) or schemas that annotations name (a
// directory).
type CheckOptions struct {
	Paths  []string `json:"paths"`
	Schema string   `json:"schema"`
}

// Check finds what `opa check --strict --schema` finds under our own contract: all of it, not the first.
func Check(options CheckOptions) ([]Problem, error) {
	schemas, err := loader.Schemas(options.Schema)
	if err != nil {
		return nil, &Error{Code: "schema", Message: "the schema does not load"}
	}
	loaded, err := checked(options.Paths)
	if err != nil {
		return policyError(err).Problems, nil
	}
	compiler := newCompiler(Agent).WithSchemas(schemas).WithUseTypeCheckAnnotations(true)
	if compiler.Compile(loaded.modules); compiler.Failed() {
		return problems(compiler.Errors), nil
	}
	return []Problem{}, nil
}

func checked(paths []string) (*source, error) {
	read, err := readPaths(paths)
	if err != nil {
		return nil, err
	}
	return read.load(ast.CapabilitiesForThisVersion(), nil)
}
