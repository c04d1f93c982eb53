package engine

import (
	"cmp"
	"maps"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Reference is one read of the input; the path ends where it stops being constant.
type Reference struct {
	Path     []string  `json:"path"`
	Location *Location `json:"location,omitempty"`
}

// references lists every read of `input`. A rule that asks whether the phase is `result` speaks about
// results, read or not.
func references(modules map[string]*ast.Module) []Reference {
	found := []Reference{}
	for _, module := range inOrder(modules) {
		ast.WalkRefs(module, func(ref ast.Ref) bool {
			if ref.HasPrefix(ast.InputRootRef) {
				found = append(found, Reference{Path: constant(ref[1:]), Location: locate(ref[0].Location)})
			}
			return false
		})
		for _, rule := range module.Rules {
			if mentions(rule, ast.InputRootRef.Append(ast.StringTerm("phase"))) && mentions(rule, ast.String("result")) {
				found = append(found, Reference{Path: []string{"result"}, Location: locate(rule.Location)})
			}
		}
	}
	return found
}

func mentions(rule *ast.Rule, value ast.Value) bool {
	seen := false
	ast.WalkTerms(rule, func(term *ast.Term) bool {
		seen = seen || term.Value.Compare(value) == 0
		return seen
	})
	return seen
}

func constant(ref ast.Ref) []string {
	path := []string{}
	for _, term := range ref {
		key, isString := term.Value.(ast.String)
		if !isString {
			break
		}
		path = append(path, string(key))
	}
	return path
}

// undecidableCalls names what a policy calls that our own contract would not let it: a replay cannot repeat it.
func undecidableCalls(modules map[string]*ast.Module) []Problem {
	found := []Problem{}
	for _, module := range inOrder(modules) {
		ast.WalkRefs(module, func(ref ast.Ref) bool {
			if builtin, known := ast.BuiltinMap[ref.String()]; known && undecidable(builtin) {
				found = append(found, Problem{
					Code:     "undecidable_builtin",
					Message:  builtin.Name + " depends on more than its arguments: its decisions cannot be replayed",
					Location: locate(ref[0].Location),
				})
			}
			return false
		})
	}
	return found
}

func inOrder(modules map[string]*ast.Module) []*ast.Module {
	return slices.SortedFunc(maps.Values(modules), func(left, right *ast.Module) int {
		return cmp.Compare(left.Package.Location.File, right.Package.Location.File)
	})
}
