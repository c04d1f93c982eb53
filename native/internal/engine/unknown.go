package engine

import (
	"context"
	"strconv"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
)

// remainder is the package of what is left of rules after an evaluation that could not end; no policy has this name.
const remainder = "__unknown"

// EvaluateUnknown is Evaluate for an input in which the values at some places were lost, as masking loses them. It
// answers where the result is the same whatever stood there, and with the code "undecidable" where it may not be.
//
// Each place is a path of names and of indices in decimal, below the input.
func (q *Query) EvaluateUnknown(input []byte, unknown [][]string, deadline time.Duration) ([]byte, error) {
	value, err := parseInput(input, q.policy.seen)
	if err != nil {
		return nil, err
	}
	until := time.Now().Add(deadline)
	if lost := existing(value, unknown); len(lost) > 0 {
		if err := q.decidable(value, lost, deadline); err != nil {
			return nil, err
		}
	}
	return q.evaluate(time.Until(until), rego.EvalParsedInput(value))
}

// decidable evaluates as far as what is known goes: nothing that remains may ask for the input or for a rule.
func (q *Query) decidable(input ast.Value, unknown []*ast.Term, deadline time.Duration) error {
	ctx, stop := context.WithTimeout(context.Background(), deadline)
	defer stop()
	remains, err := rego.New(
		rego.ParsedQuery(ast.NewBody(ast.NewExpr(ast.NewTerm(q.entrypoint)))),
		rego.Compiler(q.policy.compiler),
		rego.Capabilities(q.policy.contract.capabilities()),
		rego.Store(q.policy.store),
		rego.StrictBuiltinErrors(q.policy.contract == Agent),
		rego.ParsedInput(input),
		rego.ParsedUnknowns(unknown),
		rego.PartialNamespace(remainder),
	).Partial(ctx)
	if err != nil {
		return evaluationError(err)
	}
	asks := false
	look := func(ref ast.Ref) bool {
		// A rule that is still asked for by its own name, as one with `else` is, was not looked into.
		isRule := ref.HasPrefix(ast.DefaultRootRef) && !ref.HasPrefix(ast.DefaultRootRef.Append(ast.StringTerm(remainder)))
		asks = asks || isRule || ref.HasPrefix(ast.InputRootRef)
		return asks
	}
	for _, body := range remains.Queries {
		ast.WalkRefs(body, look)
	}
	for _, module := range remains.Support {
		ast.WalkRefs(module, look)
	}
	if asks {
		return &Error{Code: "undecidable", Message: "the result depends on a value that is not known"}
	}
	return nil
}

// existing makes references of the places that the input has. One that is not there is not read: parseInput leaves out
// what no rule asks for.
func existing(input ast.Value, places [][]string) []*ast.Term {
	found := []*ast.Term{}
	for _, place := range places {
		ref, value := ast.InputRootRef.Copy(), input
		for _, name := range place {
			var key *ast.Term
			if key, value = member(value, name); value == nil {
				break
			}
			ref = append(ref, key)
		}
		if value != nil {
			found = append(found, ast.NewTerm(ref))
		}
	}
	return found
}

func member(value ast.Value, name string) (*ast.Term, ast.Value) {
	key := ast.StringTerm(name)
	if _, isArray := value.(*ast.Array); isArray {
		index, err := strconv.Atoi(name)
		if err != nil {
			return nil, nil
		}
		key = ast.IntNumberTerm(index)
	}
	inner, err := value.Find(ast.Ref{key})
	if err != nil {
		return nil, nil
	}
	return key, inner
}
