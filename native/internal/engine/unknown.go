package engine

import (
	"bytes"
	"strconv"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// lost stands where a value is not known. A caller who writes it into an input makes more undecidable, never less.
const lost = ast.String("\x00unknown\x00")

var lostInResult = []byte(`\u0000unknown\u0000`)

// EvaluateUnknown is Evaluate for an input in which the values at some places were lost, as masking loses them. It
// answers where no rule looked at one of them, so that the result is the same whatever stood there, and with the code
// "undecidable" else. A value that is handed on, bound to a variable or part of an object that is read elsewhere, was
// not looked at.
//
// Each place is a path of names and of indices in decimal, below the input.
func (q *Query) EvaluateUnknown(input []byte, unknown [][]string, deadline time.Duration) ([]byte, error) {
	value, err := parseInput(input, q.policy.seen)
	if err != nil {
		return nil, err
	}
	undecidable := &Error{Code: "undecidable", Message: "the result may depend on a value that is not known"}
	isLost := false
	for _, place := range unknown {
		replaced, found := replace(value, place)
		if found == composite {
			// Some rule may read below it, and what stood there is gone with its names.
			return nil, undecidable
		}
		if found == text {
			value, isLost = replaced, true
		}
	}
	if !isLost {
		return q.evaluate(deadline, rego.EvalParsedInput(value))
	}
	seen := &watch{policy: q.policy, input: value, tainted: map[string]bool{}}
	result, err := q.evaluate(deadline,
		rego.EvalParsedInput(value), rego.EvalQueryTracer(seen), rego.EvalRuleIndexing(false))
	if seen.looked() || bytes.Contains(result, lostInResult) {
		return nil, undecidable
	}
	return result, err
}

type kind int

const (
	absent kind = iota // parseInput leaves out what no rule asks for
	text
	composite
)

// replace puts `lost` at a place.
func replace(value ast.Value, place []string) (ast.Value, kind) {
	if len(place) == 0 {
		switch value.(type) {
		case ast.Object, *ast.Array:
			return value, composite
		}
		return lost, text
	}
	switch within := value.(type) {
	case ast.Object:
		key := ast.StringTerm(place[0])
		if inner := within.Get(key); inner != nil {
			replaced, found := replace(inner.Value, place[1:])
			copied := ast.NewObject()
			within.Foreach(func(name, member *ast.Term) { copied.Insert(name, member) })
			copied.Insert(key, ast.NewTerm(replaced))
			return copied, found
		}
	case *ast.Array:
		index, err := strconv.Atoi(place[0])
		if err == nil && index >= 0 && index < within.Len() {
			replaced, found := replace(within.Elem(index).Value, place[1:])
			items := make([]*ast.Term, 0, within.Len())
			within.Foreach(func(item *ast.Term) { items = append(items, item) })
			items[index] = ast.NewTerm(replaced)
			return ast.NewArray(items...), found
		}
	}
	return value, absent
}

// watch is a tracer that sees whether an evaluation looks at what is lost: compares it, hands it to a builtin or looks
// something up by it. An evaluation that does not would have gone the same way whatever stood there.
type watch struct {
	policy *Policy
	input  ast.Value
	read   bool
	// Rules are judged at the end: a rule may be compared before it is known that its value has something lost in it.
	tainted  map[string]bool
	compared []ast.Ref
}

func (w *watch) Enabled() bool { return true }

func (w *watch) Config() topdown.TraceConfig { return topdown.TraceConfig{} }

func (w *watch) TraceEvent(event topdown.Event) {
	switch node := event.Node.(type) {
	case *ast.Expr:
		if event.Op == topdown.EvalOp {
			w.read = w.read || w.reads(node, event.Plug)
		}
	case *ast.Rule:
		if event.Op == topdown.ExitOp {
			w.gives(node, event.Plug)
		}
	}
}

// looked tells the verdict once the evaluation is over.
func (w *watch) looked() bool {
	for _, ref := range w.compared {
		w.read = w.read || w.tainted[ref.ConstantPrefix().String()]
		for length := 1; length < len(ref); length++ {
			w.read = w.read || w.tainted[ref[:length].String()]
		}
	}
	return w.read
}

func (w *watch) gives(rule *ast.Rule, plug func(*ast.Term) *ast.Term) {
	for _, part := range []*ast.Term{rule.Head.Key, rule.Head.Value} {
		if part == nil || !w.holds(plug(part)) {
			continue
		}
		ref := rule.Ref().ConstantPrefix()
		w.tainted[ref.String()] = true
		// Several definitions of one value are compared with each other.
		several := rule.Head.RuleKind() == ast.SingleValue && len(w.policy.compiler.GetRulesExact(ref)) > 1
		w.read = w.read || several
	}
}

func (w *watch) reads(expr *ast.Expr, plug func(*ast.Term) *ast.Term) bool {
	for _, with := range expr.With {
		if w.holds(plug(with.Value)) {
			return true
		}
	}
	switch terms := expr.Terms.(type) {
	case *ast.Term:
		return w.looksUp(plug(terms))
	case *ast.Every:
		return w.looksUp(plug(terms.Domain))
	case []*ast.Term:
		operands := make([]*ast.Term, 0, len(terms))
		for _, term := range terms[1:] {
			operands = append(operands, plug(term))
		}
		for _, operand := range operands {
			if w.looksUp(operand) {
				return true
			}
		}
		return w.calls(terms[0].Value.(ast.Ref), operands)
	}
	return false
}

// looksUp tells whether some reference in a term goes on by what is lost.
func (w *watch) looksUp(term *ast.Term) bool {
	found := false
	ast.WalkRefs(term, func(ref ast.Ref) bool {
		for _, operand := range ref[1:] {
			found = found || w.holds(operand)
		}
		return found
	})
	return found
}

// blind builtins look at names and at kinds of containers, never at a value inside.
var blind = map[string]bool{
	"object.get": true, "object.keys": true, "internal.print": true, "is_object": true, "is_array": true,
}

func (w *watch) calls(operator ast.Ref, operands []*ast.Term) bool {
	if operator.Equal(ast.Equality.Ref()) {
		return w.compares(operands[0], operands[1])
	}
	builtin, isBuiltin := ast.BuiltinMap[operator.String()]
	if !isBuiltin {
		return w.matches(operator, operands)
	}
	for index, operand := range operands[:min(builtin.Decl.Arity(), len(operands))] {
		direct := operand.Value.Compare(lost) == 0
		if w.holds(operand) && (direct || index > 0 || !blind[builtin.Name]) {
			return true
		}
	}
	return false
}

// matches tells whether a function of the policy is chosen by what is lost; its body is watched by itself.
func (w *watch) matches(operator ast.Ref, operands []*ast.Term) bool {
	for _, rule := range w.policy.compiler.GetRulesExact(operator) {
		arguments := rule.Head.Args
		for index, argument := range arguments {
			if _, isVar := argument.Value.(ast.Var); !isVar && index < len(operands) && w.holds(operands[index]) {
				return true
			}
		}
		if len(operands) > len(arguments) && !isUnbound(operands[len(arguments)]) {
			w.compared = append(w.compared, operator)
		}
	}
	return false
}

// compares tells whether a unification looks at what is lost: with a variable that has no value yet it only binds.
func (w *watch) compares(left, right *ast.Term) bool {
	if isUnbound(left) || isUnbound(right) {
		return false
	}
	for _, side := range []*ast.Term{left, right} {
		if ref, isRef := side.Value.(ast.Ref); isRef && ref.HasPrefix(ast.DefaultRootRef) {
			w.compared = append(w.compared, ref)
		} else if w.holds(side) {
			return true
		}
	}
	return false
}

func isUnbound(term *ast.Term) bool {
	_, isVar := term.Value.(ast.Var)
	return isVar
}

// holds tells whether a value has something lost in it. A comprehension may have.
func (w *watch) holds(term *ast.Term) bool {
	found := false
	ast.WalkTerms(term, func(part *ast.Term) bool {
		switch value := part.Value.(type) {
		case ast.String:
			found = found || value == lost
		case ast.Ref:
			found = found || w.leads(value)
		case *ast.ArrayComprehension, *ast.SetComprehension, *ast.ObjectComprehension:
			found = true
		}
		return found
	})
	return found
}

// leads tells whether a reference into a value that is at hand may reach what is lost.
func (w *watch) leads(ref ast.Ref) bool {
	var value ast.Value
	switch {
	case ref.HasPrefix(ast.InputRootRef):
		value = w.input
	case !isUnbound(ref[0]):
		value = ref[0].Value
	default:
		return false
	}
	for _, operand := range ref[1:] {
		if !operand.IsGround() {
			break
		}
		inner, err := value.Find(ast.Ref{operand})
		if err != nil {
			return false
		}
		value = inner
	}
	return w.holds(ast.NewTerm(value))
}
