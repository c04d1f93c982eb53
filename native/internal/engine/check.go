package engine

import (
	"bytes"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/format"
	"github.com/open-policy-agent/opa/v1/loader"
)

// CheckOptions say what to check and under which contract, and against which schemas: a file is the schema of every
// rule's input; so is `input.json` in a directory, whose schemas annotations may also name.
type CheckOptions struct {
	Paths    []string `json:"paths"`
	Schema   string   `json:"schema"`
	Contract Contract `json:"contract"`
}

// Check finds what `opa check --strict --schema` finds under a contract, all of it and not the first; where that is
// nothing, what is unwise.
func Check(options CheckOptions) ([]Problem, error) {
	schemas, err := loader.Schemas(options.Schema)
	if err != nil {
		return nil, &Error{Code: "schema", Message: "the schema does not load"}
	}
	if ofInput := schemas.Get(ast.SchemaRootRef.Append(ast.StringTerm("input"))); ofInput != nil {
		schemas.Put(ast.SchemaRootRef, ofInput)
	}
	read, err := readPaths(options.Paths, 0)
	if err != nil {
		return policyError(err).Problems, nil
	}
	loaded, err := read.load(ast.CapabilitiesForThisVersion(), nil)
	if err != nil {
		return policyError(err).Problems, nil
	}
	compiler := newCompiler(options.Contract).WithStrict(true).WithSchemas(schemas).WithUseTypeCheckAnnotations(true)
	if compiler.Compile(loaded.modules); compiler.Failed() {
		return problems(compiler.Errors), nil
	}
	found, err := advice(loaded.modules, compiler)
	found = append(found, undecidableCalls(compiler.Modules)...)
	if options.Contract == Agent {
		found = append(found, read.unformatted(loaded.modules)...)
	}
	return found, err
}

// unformatted names modules that `opa fmt` would write in another way.
func (s *snapshot) unformatted(modules map[string]*ast.Module) []Problem {
	var found []Problem
	for _, module := range inOrder(modules) {
		place := &Location{File: shown(module.Package.Location.File), Row: 1, Col: 1}
		file, read := s.files[strings.TrimPrefix(module.Package.Location.File, "/")]
		if !read {
			continue
		}
		written, err := format.Source(place.File, file.Data)
		if err == nil && !bytes.Equal(written, file.Data) {
			found = append(found, Problem{"not_formatted", "the module is not in the standard form", place})
		}
	}
	return found
}
