package engine

import (
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// advice finds what compiles and is still a trap for those who trust the policy, or a riddle for those who read it.
// It takes the modules as they were written: compiling takes expressions apart.
func advice(written map[string]*ast.Module, compiler *ast.Compiler) ([]Problem, error) {
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
			if allows(rule) {
				found = append(found, vacuous(rule.Body)...)
			}
			found = append(found, neverHolds(rule)...)
			found = append(found, shadowedDenies(rule)...)
			found = append(found, fallible(rule)...)
			return false
		})
		found = append(found, unequals(module)...)
	}
	found = append(found, unindexed(modules)...)
	return append(found, negatedSets(compiler)...), nil
}

func at(rule *ast.Rule, code, message string) Problem {
	return Problem{Code: code, Message: message, Location: locate(rule.Location)}
}

// unequals finds `x != xs[_]`, which reads as "x is not among them" and holds as soon as one of them differs.
func unequals(module *ast.Module) []Problem {
	var found []Problem
	ast.WalkExprs(module, func(expr *ast.Expr) bool {
		isNot := expr.IsCall() && slices.Contains([]string{ast.NotEqual.Name, ast.NotEqual.Infix}, expr.Operator().String())
		if isNot && slices.ContainsFunc(expr.Operands(), iterates) {
			found = append(found, Problem{"unequal_to_some", "this holds as soon as one element differs", locate(expr.Location)})
		}
		return false
	})
	return found
}

func iterates(term *ast.Term) bool {
	ref, isRef := term.Value.(ast.Ref)
	return isRef && slices.ContainsFunc(ref[1:], func(part *ast.Term) bool {
		name, isVar := part.Value.(ast.Var)
		return isVar && name.IsWildcard()
	})
}

// vacuous finds `every` over what may be empty, where it holds, unless the body asks something else of the same domain.
func vacuous(body ast.Body) []Problem {
	var found []Problem
	for _, expr := range body {
		every, isEvery := expr.Terms.(*ast.Every)
		if !isEvery || slices.ContainsFunc(body, func(other *ast.Expr) bool { return other != expr && asks(other, every.Domain) }) {
			continue
		}
		if _, isRef := every.Domain.Value.(ast.Ref); isRef {
			found = append(found, Problem{"vacuous_every", "this holds where there is no element", locate(expr.Location)})
		}
	}
	return found
}

func asks(expr *ast.Expr, domain *ast.Term) bool {
	seen := false
	ast.WalkTerms(expr, func(term *ast.Term) bool {
		seen = seen || !expr.Negated && term.Equal(domain)
		return seen
	})
	return seen
}

// negatedSets finds `not xs` of a rule that collects: even an empty collection is defined, so the negation never holds.
func negatedSets(compiler *ast.Compiler) []Problem {
	var found []Problem
	for _, module := range inOrder(compiler.Modules) {
		ast.WalkExprs(module, func(expr *ast.Expr) bool {
			term, isTerm := expr.Terms.(*ast.Term)
			if !expr.Negated || !isTerm {
				return false
			}
			ref, isRef := term.Value.(ast.Ref)
			if isRef && slices.ContainsFunc(compiler.GetRulesExact(ref), collects) {
				found = append(found, Problem{"negated_set", "a collection is defined even where it is empty: this never holds", locate(expr.Location)})
			}
			return false
		})
	}
	return found
}

func collects(rule *ast.Rule) bool { return rule.Head.RuleKind() == ast.MultiValue }

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
	return !slices.ContainsFunc(body, func(expr *ast.Expr) bool {
		return !expr.Negated && !comparesCountWithZero(expr) && !assignsCollection(expr)
	})
}

// assignsCollection holds whatever the collection is, so it proves nothing.
func assignsCollection(expr *ast.Expr) bool {
	if !expr.IsAssignment() {
		return false
	}
	switch expr.Operand(1).Value.(type) {
	case *ast.SetComprehension, *ast.ArrayComprehension, *ast.ObjectComprehension:
		return true
	}
	return false
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
