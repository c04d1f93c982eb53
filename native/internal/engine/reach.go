package engine

import (
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// hotRules is how many definitions a rule needs before it matters that the index finds those which can hold.
const hotRules = 50

// neverHolds finds a rule that asks for one input to be two things.
func neverHolds(rule *ast.Rule) []Problem {
	wanted := map[string][]ast.Value{}
	for _, expr := range rule.Body {
		ref, values := constants(expr)
		if ref == "" {
			continue
		}
		if before, asked := wanted[ref]; asked {
			values = slices.DeleteFunc(slices.Clone(values), func(value ast.Value) bool { return !holds(before, value) })
		}
		if wanted[ref] = values; len(values) == 0 {
			return []Problem{at(rule, "unreachable_rule", ref+" is asked to be two things at once: this never holds")}
		}
	}
	return nil
}

func holds(values []ast.Value, wanted ast.Value) bool {
	return slices.ContainsFunc(values, func(value ast.Value) bool { return value.Compare(wanted) == 0 })
}

// constants reads `input.x == "a"` and `input.x in {"a", "b"}`: what is asked, and the values that it may have.
func constants(expr *ast.Expr) (string, []ast.Value) {
	if expr.Negated || len(expr.With) > 0 || !expr.IsCall() || len(expr.Operands()) != 2 {
		return "", nil
	}
	left, right := expr.Operand(0), expr.Operand(1)
	switch expr.Operator().String() {
	case ast.Equal.Name, ast.Equality.Name:
		if isInput(right) {
			left, right = right, left
		}
		if isInput(left) && ast.IsScalar(right.Value) {
			return left.String(), []ast.Value{right.Value}
		}
	case ast.Member.Name:
		return members(left, right)
	}
	return "", nil
}

func members(asked, within *ast.Term) (string, []ast.Value) {
	var values []ast.Value
	add := func(term *ast.Term) { values = append(values, term.Value) }
	switch collection := within.Value.(type) {
	case ast.Set:
		collection.Foreach(add)
	case *ast.Array:
		collection.Foreach(add)
	}
	if !isInput(asked) || len(values) == 0 || !slices.ContainsFunc(values, ast.IsScalar) {
		return "", nil
	}
	return asked.String(), values
}

func isInput(term *ast.Term) bool {
	ref, isRef := term.Value.(ast.Ref)
	return isRef && ref.HasPrefix(ast.InputRootRef) && ref.IsGround()
}

// shadowedDenies finds a denial that stands behind an allow in one chain of `else`: where both hold, the allow wins.
func shadowedDenies(rule *ast.Rule) []Problem {
	var found []Problem
	for branch := rule; allows(branch) && branch.Else != nil; branch = branch.Else {
		if denies(branch.Else) && !always(branch.Else.Body) {
			message := "it stands behind an allow: where both hold, the call is allowed"
			found = append(found, at(branch.Else, "shadowed_deny", message))
		}
	}
	return found
}

func always(body ast.Body) bool {
	return !slices.ContainsFunc(body, func(expr *ast.Expr) bool {
		term, isTerm := expr.Terms.(*ast.Term)
		return !isTerm || !is(term, ast.Boolean(true))
	})
}

// denies tells whether a rule's value refuses a call, as far as it can be read off the head.
func denies(rule *ast.Rule) bool {
	if strings.HasPrefix(string(rule.Head.Name), "deny") {
		return true
	}
	return slices.ContainsFunc([]*ast.Term{rule.Head.Value, rule.Head.Key}, func(value *ast.Term) bool {
		if value == nil {
			return false
		}
		object, isObject := value.Value.(ast.Object)
		return is(value, ast.String("deny")) || isObject && is(object.Get(ast.StringTerm("effect")), ast.String("deny"))
	})
}

// fallible finds builtins in a denial that fail on a value which they cannot read.
func fallible(rule *ast.Rule) []Problem {
	if !denies(rule) {
		return nil
	}
	var found []Problem
	ast.WalkTerms(rule.Body, func(term *ast.Term) bool {
		if call, isCall := term.Value.(ast.Call); isCall && fails(call[0].String(), call[1:]) {
			found = append(found, failing(call[0].String(), term.Location))
		}
		return false
	})
	for _, expr := range rule.Body {
		if expr.IsCall() && fails(expr.Operator().String(), expr.Operands()) {
			found = append(found, failing(expr.Operator().String(), expr.Location))
		}
	}
	return found
}

func failing(builtin string, place *ast.Location) Problem {
	message := fmt.Sprintf("%s fails on what it cannot read, and the whole decision with it", builtin)
	return Problem{"deny_can_fail", message, locate(place)}
}

func fails(builtin string, operands []*ast.Term) bool {
	switch builtin {
	case ast.ToNumber.Name, ast.JSONUnmarshal.Name, ast.YAMLUnmarshal.Name, ast.HexDecode.Name, ast.JSONPatch.Name:
		return true
	case ast.Divide.Name, ast.Rem.Name:
		return !ast.IsScalar(operands[1].Value)
	case ast.RegexMatch.Name:
		return !ast.IsScalar(operands[0].Value)
	}
	return slices.ContainsFunc([]string{"base64", "time.parse_", "units.parse", "urlquery.decode", "io.jwt."}, func(prefix string) bool {
		return strings.HasPrefix(builtin, prefix) && !strings.HasSuffix(builtin, "is_valid") && !strings.Contains(builtin, "encode")
	})
}

// unindexed finds, among very many definitions of one rule, those that the index cannot leave out.
func unindexed(modules []*ast.Module) []Problem {
	defined := map[string]int{}
	for _, module := range modules {
		for _, rule := range module.Rules {
			defined[rule.Ref().GroundPrefix().String()]++
		}
	}
	var found []Problem
	for _, module := range modules {
		for _, rule := range module.Rules {
			count := defined[rule.Ref().GroundPrefix().String()]
			if count >= hotRules && !slices.ContainsFunc(rule.Body, selects) {
				message := fmt.Sprintf("one of %d, and evaluated for every call: it names no tool, agent or tenant", count)
				found = append(found, at(rule, "unindexed_rule", message))
			}
		}
	}
	return found
}

// selects tells whether an expression speaks of few calls: `input.phase == "call"` is one that nearly all meet.
func selects(expr *ast.Expr) bool {
	ref, _ := constants(expr)
	return ref != "" && ref != "input.phase"
}
