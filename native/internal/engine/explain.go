package engine

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/profiler"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// Explanation is one evaluation with everything that was seen on the way. It quotes the policy, never the input.
type Explanation struct {
	Result  json.RawMessage `json:"result,omitempty"`
	Error   *Error          `json:"error,omitempty"`
	Rules   []Rule          `json:"rules"`
	Failed  []Condition     `json:"failed"`
	Prints  []Print         `json:"prints"`
	Profile []Cost          `json:"profile"`
}

// Rule is a rule that gave a value, with its source.
type Rule struct {
	Name     string    `json:"name"`
	Source   string    `json:"source"`
	Location *Location `json:"location,omitempty"`
}

// Condition is one that did not hold, in a rule that gave no value; Source is the rule's.
type Condition struct {
	Rule     string    `json:"rule"`
	Source   string    `json:"source"`
	Text     string    `json:"text"`
	Location *Location `json:"location,omitempty"`
}

// Cost is what one rule took.
type Cost struct {
	Rule        string    `json:"rule"`
	Location    *Location `json:"location,omitempty"`
	Evaluations int       `json:"evaluations"`
	Nanoseconds int64     `json:"ns"`
}

// Explain evaluates with tracing on and without the index, so that rules which could not hold show why.
func (q *Query) Explain(input []byte, deadline time.Duration) (*Explanation, error) {
	value, err := parseInput(input, q.policy.seen)
	if err != nil {
		return nil, err
	}
	trace, profile, lines := topdown.NewBufferTracer(), profiler.New(), &prints{}
	result, err := q.evaluate(deadline,
		rego.EvalParsedInput(value),
		rego.EvalQueryTracer(trace),
		rego.EvalQueryTracer(profile),
		rego.EvalPrintHook(lines),
		rego.EvalRuleIndexing(false),
	)
	explained := &Explanation{Result: result, Profile: q.costs(profile)}
	if failure, failed := err.(*Error); failed {
		explained.Error = failure
	}
	explained.Prints, _ = lines.take()
	explained.Rules, explained.Failed = story(*trace)
	return explained, nil
}

// story reads a trace: rules that gave a value, and the conditions that kept the others from it.
func story(trace []*topdown.Event) ([]Rule, []Condition) {
	rules, held := []Rule{}, map[*ast.Rule]bool{}
	within := map[uint64]*ast.Rule{}
	for _, event := range trace {
		rule, isRule := event.Node.(*ast.Rule)
		switch {
		case isRule && event.Op == topdown.EnterOp:
			within[event.QueryID] = rule
		case isRule && event.Op == topdown.ExitOp && !held[rule]:
			held[rule] = true
			rules = append(rules, Rule{rule.Ref().String(), string(rule.Location.Text), locate(rule.Location)})
		case !isRule && event.Op == topdown.EnterOp && within[event.QueryID] == nil:
			// A comprehension or a negation inside a rule is a query of its own.
			within[event.QueryID] = within[event.ParentID]
		}
	}
	return rules, failures(trace, within, held)
}

func failures(trace []*topdown.Event, within map[uint64]*ast.Rule, held map[*ast.Rule]bool) []Condition {
	failed, seen := []Condition{}, map[Location]bool{}
	for _, event := range trace {
		rule, at := within[event.QueryID], locate(event.Location)
		if event.Op != topdown.FailOp || rule == nil || held[rule] || at == nil || seen[*at] {
			continue
		}
		seen[*at] = true
		text := string(bytes.TrimSpace(event.Location.Text))
		failed = append(failed, Condition{rule.Ref().String(), string(rule.Location.Text), text, at})
	}
	return failed
}

// costs adds up the profile of expressions by the rule they stand in.
func (q *Query) costs(profile *profiler.Profiler) []Cost {
	owners := map[Location]*ast.Rule{}
	for _, module := range q.policy.compiler.Modules {
		ast.WalkRules(module, func(rule *ast.Rule) bool {
			ast.WalkExprs(rule, func(expr *ast.Expr) bool {
				if at := locate(expr.Location); at != nil {
					owners[Location{File: at.File, Row: at.Row}] = rule
				}
				return false
			})
			return false
		})
	}
	costs := map[*ast.Rule]*Cost{}
	for _, spent := range profile.ReportTopNResults(maxFiles, []string{"total_time_ns"}) {
		rule := owners[Location{File: shown(spent.Location.File), Row: spent.Location.Row}]
		if rule == nil {
			continue
		}
		if costs[rule] == nil {
			costs[rule] = &Cost{Rule: rule.Ref().String(), Location: locate(rule.Location)}
		}
		costs[rule].Evaluations += spent.NumEval
		costs[rule].Nanoseconds += spent.ExprTimeNs
	}
	return sorted(costs)
}

func sorted(costs map[*ast.Rule]*Cost) []Cost {
	listed := []Cost{}
	for _, cost := range costs {
		listed = append(listed, *cost)
	}
	slices.SortFunc(listed, func(left, right Cost) int { return cmp.Compare(right.Nanoseconds, left.Nanoseconds) })
	return listed
}
