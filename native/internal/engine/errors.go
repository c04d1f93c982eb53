package engine

import (
	"errors"
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/loader"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// Location is a place in a policy's source.
type Location struct {
	File string `json:"file"`
	Row  int    `json:"row"`
	Col  int    `json:"col"`
}

func locate(at *ast.Location) *Location {
	if at == nil || at.Row == 0 {
		return nil
	}
	return &Location{File: shown(at.File), Row: at.Row, Col: at.Col}
}

// Problem is one thing wrong with a policy.
type Problem struct {
	Code     string    `json:"code"`
	Message  string    `json:"message"`
	Location *Location `json:"location,omitempty"`
}

// Error is what the engine answers instead of a result. The code is stable; the message never quotes the input.
type Error struct {
	Code     string    `json:"code"`
	Message  string    `json:"message"`
	Location *Location `json:"location,omitempty"`
	Problems []Problem `json:"problems,omitempty"`
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

var evaluationCodes = map[string]string{
	topdown.CancelErr:    "timeout",
	topdown.ConflictErr:  "conflict",
	topdown.TypeErr:      "type",
	topdown.BuiltinErr:   "builtin",
	topdown.WithMergeErr: "with_merge",
	topdown.InternalErr:  "internal",
}

var evaluationMessages = map[string]string{
	"timeout":    "the evaluation was stopped at its deadline",
	"conflict":   "a rule gave two different values",
	"type":       "a value had the wrong type",
	"builtin":    "a builtin failed",
	"with_merge": "a `with` target could not be replaced",
	"internal":   "the evaluation failed",
}

// evaluationError keeps OPA's code and place. Its text is dropped, since builtins quote their operands in it, and
// operands are the caller's arguments.
func evaluationError(err error) *Error {
	failure := &topdown.Error{}
	if !errors.As(err, &failure) {
		return &Error{Code: "internal", Message: evaluationMessages["internal"]}
	}
	code, known := evaluationCodes[failure.Code]
	if !known {
		code = "internal"
	}
	return &Error{Code: code, Message: evaluationMessages[code], Location: locate(failure.Location)}
}

// policyError lists everything that is wrong with a policy's source, each with its place.
func policyError(err error) *Error {
	refused := &Error{}
	if errors.As(err, &refused) {
		return refused
	}
	return &Error{Code: "invalid_policy", Message: "the policy does not load", Problems: problems(err)}
}

// tooLarge refuses a policy for its weight, which operators tell from one that is wrong.
func tooLarge(format string, values ...any) *Error {
	message := fmt.Sprintf(format, values...)
	return &Error{Code: "size", Message: message, Problems: []Problem{{Code: "size", Message: message}}}
}

func problems(err error) []Problem {
	compiled := ast.Errors{}
	single := &ast.Error{}
	several := loader.Errors{}
	switch {
	case errors.As(err, &compiled):
		found := make([]Problem, 0, len(compiled))
		for _, each := range compiled {
			found = append(found, Problem{Code: each.Code, Message: each.Message, Location: locate(each.Location)})
		}
		return found
	case errors.As(err, &several):
		var found []Problem
		for _, each := range several {
			found = append(found, problems(each)...)
		}
		return found
	case errors.As(err, &single):
		return []Problem{{Code: single.Code, Message: single.Message, Location: locate(single.Location)}}
	default:
		return []Problem{{Code: "load_error", Message: err.Error()}}
	}
}
