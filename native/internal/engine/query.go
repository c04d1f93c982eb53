package engine

import (
	"context"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// Query is an entrypoint, prepared once for a policy. It is safe for concurrent use.
type Query struct {
	policy   *Policy
	prepared rego.PreparedEvalQuery
}

// Prepare answers with the same Query for the same entrypoint, such as `authz/decision`.
func (p *Policy) Prepare(entrypoint string) (*Query, error) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if query, known := p.queries[entrypoint]; known {
		p.cache.hits.Add(1)
		return query, nil
	}
	p.cache.misses.Add(1)
	query, err := p.prepare(entrypoint)
	if err == nil {
		p.queries[entrypoint] = query
	}
	return query, err
}

func (p *Policy) prepare(entrypoint string) (*Query, error) {
	ref, err := ast.PtrRef(ast.DefaultRootDocument, strings.Trim(entrypoint, "/"))
	if err != nil {
		return nil, &Error{Code: "entrypoint", Message: "the entrypoint is not a path of names"}
	}
	// A mistyped entrypoint would deny everything without a word.
	if !p.defines(ref) {
		return nil, &Error{Code: "entrypoint_undefined", Message: "no rule and no data at the entrypoint"}
	}
	prepared, err := rego.New(
		rego.ParsedQuery(ast.NewBody(ast.NewExpr(ast.NewTerm(ref)))),
		rego.Compiler(p.compiler),
		rego.Capabilities(p.contract.capabilities()),
		rego.Store(p.store),
		rego.StrictBuiltinErrors(p.contract == Agent),
		rego.EnablePrintStatements(true),
		rego.PrintHook(printed),
		rego.GenerateJSON(func(term *ast.Term, _ *rego.EvalContext) (any, error) { return term.Value, nil }),
	).PrepareForEval(context.Background())
	if err != nil {
		return nil, policyError(err)
	}
	return &Query{policy: p, prepared: prepared}, nil
}

func (p *Policy) prepared() int {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return len(p.queries)
}

func (p *Policy) defines(ref ast.Ref) bool {
	if len(p.compiler.GetRules(ref)) > 0 {
		return true
	}
	path, err := storage.NewPathForRef(ref)
	if err != nil {
		return false
	}
	_, err = storage.ReadOne(context.Background(), p.store, path)
	return err == nil
}

// Evaluate answers with the entrypoint's value as JSON, or nil where it is undefined. It ends at the deadline, whatever
// the policy does.
func (q *Query) Evaluate(input []byte, deadline time.Duration) ([]byte, error) {
	value, err := parseInput(input, q.policy.seen)
	if err != nil {
		return nil, err
	}
	return q.evaluate(deadline, rego.EvalParsedInput(value))
}

func (q *Query) evaluate(deadline time.Duration, options ...rego.EvalOption) ([]byte, error) {
	// One timer and one flag; the default would start a goroutine for every evaluation.
	cancel := topdown.NewCancel()
	timer := time.AfterFunc(deadline, cancel.Cancel)
	defer timer.Stop()
	options = append(options,
		rego.EvalExternalCancel(cancel),
		rego.EvalInterQueryBuiltinValueCache(q.policy.values),
		rego.EvalMetrics(metrics.NoOp()),
	)
	results, err := q.prepared.Eval(context.Background(), options...)
	if err != nil {
		return nil, evaluationError(err)
	}
	if len(results) == 0 || len(results[0].Expressions) == 0 {
		return nil, nil
	}
	value, isValue := results[0].Expressions[0].Value.(ast.Value)
	if !isValue {
		return nil, &Error{Code: "internal", Message: "the engine gave no value"}
	}
	return appendJSON(make([]byte, 0, 512), value)
}
