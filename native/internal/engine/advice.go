package engine

import (
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// advice finds what compiles and is still a trap for those who trust the policy, or a riddle for those who read it.
// It takes the modules as they were written: compiling takes expressions apart.
func advice(written map[string]*ast.Module) ([]Problem, error) {
	modules := inOrder(written)
	modules = slices.DeleteFunc(modules, func(module *ast.Module) bool {
		return strings.HasSuffix(module.Package.Location.File, "_test.rego")
	})
	annotations, wrong := ast.BuildAnnotationSet(modules)
	if len(wrong) > 0 {
		return nil, wrong
	}
	found := undescribed(modules, annotations)
	for _, module := range modules {
		ast.WalkRules(module, func(rule *ast.Rule) bool {
			if allows(rule) && rule.Default {
				found = append(found, at(rule, "default_allow", "a call that no rule knows is allowed"))
			} else if allows(rule) && absences(rule.Body) {
				found = append(found, at(rule, "allow_by_absence", "the only proof of this allow is that nothing denies: "+
					"a denial that is undefined, for a value of another type or a missing one, allows"))
			}
			return false
		})
	}
	return found, nil
}

func at(rule *ast.Rule, code, message string) Problem {
	return Problem{Code: code, Message: message, Location: locate(rule.Location)}
}

// undescribed names each public rule without metadata once, where it first stands.
func undescribed(modules []*ast.Module, annotations *ast.AnnotationSet) []Problem {
	described, first, order := map[string]bool{}, map[string]*ast.Rule{}, []string{}
	for _, module := range modules {
		for _, rule := range module.Rules {
			if strings.HasPrefix(rule.Head.Ref()[0].Value.String(), "_") {
				continue
			}
			path := rule.Ref().GroundPrefix()
			if first[path.String()] == nil {
				first[path.String()] = rule
				order = append(order, path.String())
			}
			if len(annotations.GetRuleScope(rule)) > 0 || annotations.GetDocumentScope(path) != nil {
				described[path.String()] = true
			}
		}
	}
	found := []Problem{}
	for _, path := range order {
		if !described[path] {
			found = append(found, at(first[path], "missing_metadata", path+" has no METADATA"))
		}
	}
	return found
}

// allows tells whether a rule's value lets a call run, as far as it can be read off the head.
func allows(rule *ast.Rule) bool {
	head := rule.Head
	values := []*ast.Term{head.Value, head.Key}
	return slices.ContainsFunc(values, func(value *ast.Term) bool {
		if value == nil {
			return false
		}
		switch value := value.Value.(type) {
		case ast.Boolean:
			return bool(value) && slices.Contains([]string{"allow", "allowed"}, head.Ref()[0].Value.String())
		case ast.String:
			return value == "allow"
		case ast.Object:
			return is(value.Get(ast.StringTerm("effect")), ast.String("allow")) ||
				is(value.Get(ast.StringTerm("allowed")), ast.Boolean(true))
		}
		return false
	})
}

func is(term *ast.Term, value ast.Value) bool { return term != nil && term.Value.Compare(value) == 0 }

// absences tells whether a body asks for nothing but that something is not there.
func absences(body ast.Body) bool {
	return !slices.ContainsFunc(body, func(expr *ast.Expr) bool { return !expr.Negated && !comparesCountWithZero(expr) })
}

func comparesCountWithZero(expr *ast.Expr) bool {
	operands := expr.Operands()
	if !expr.IsCall() || len(operands) != 2 || !slices.Contains([]string{"equal", "eq"}, expr.Operator().String()) {
		return false
	}
	counts := func(term *ast.Term) bool {
		call, isCall := term.Value.(ast.Call)
		return isCall && call[0].String() == ast.Count.Name
	}
	zero := ast.Number("0")
	return counts(operands[0]) && is(operands[1], zero) || is(operands[0], zero) && counts(operands[1])
}
