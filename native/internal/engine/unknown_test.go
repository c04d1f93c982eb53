package engine

import (
	"errors"
	"testing"
	"time"
)

func TestWhatWasLostMattersOnlyWhereTheResultDependsOnIt(t *testing.T) {
	input := `{"agent":"a","args":{"iban":"?","note":["x","?"],"amount":3}}`
	unknown := [][]string{{"args", "iban"}, {"args", "note", "1"}}
	const undecidable = "undecidable"
	cases := map[string]string{
		`decision := "allow"`:                                                             `"allow"`,
		`decision := "allow" if input.agent == "a"`:                                       `"allow"`,
		`decision := "allow" if input.args.iban == "x"`:                                   undecidable,
		`decision := "allow" if {input.args.iban == "x"; input.agent == "b"}`:             "",
		`decision := "allow" if {input.args.amount > 2; input.args.note[0] == "x"}`:       `"allow"`,
		`decision := "allow" if input.args.note[1] == "x"`:                                undecidable,
		`decision := "allow" if "x" in input.args.note`:                                   undecidable,
		`decision := "allow" if {some word in input.args.note; word == "y"}`:              undecidable,
		`decision := "allow" if not input.args.iban`:                                      undecidable,
		"default decision := \"deny\"\ndecision := \"allow\" if input.agent == \"b\"":     `"deny"`,
		"default decision := \"deny\"\ndecision := \"allow\" if input.args.iban == \"b\"": undecidable,
		"decision := \"one\" if input.agent == \"b\"\nelse := \"two\"":                    `"two"`,
		"decision := \"one\" if input.args.iban == \"b\"\nelse := \"two\"":                undecidable,
		"_f(x) := input.args.iban if x\ndecision := _f(true)":                             undecidable,
		"_f(x) := input.args.amount if x\ndecision := _f(true)":                           `3`,
		`decision := count([x | walk(input.args, [_, x])])`:                               undecidable,
		`decision := count(input.args)`:                                                   undecidable,
		`decision := {"a": input.args.iban}`:                                              undecidable,
		"_deny contains \"x\" if input.args.iban == \"x\"\ndecision := count(_deny)":      undecidable,
		"_deny contains \"x\" if input.agent == \"x\"\ndecision := count(_deny)":          `0`,
		`decision := "x" if every word in input.args.note { word != "y" }`:                undecidable,
		`decision := json.marshal(input)`:                                                 undecidable,
	}
	for policy, want := range cases {
		opened := open(t, Agent, map[string]string{"p.rego": "package authz\n\n" + policy + "\n"})
		query, err := opened.Prepare("authz/decision")
		if err != nil {
			t.Fatal(err)
		}
		found, err := query.EvaluateUnknown([]byte(input), unknown, time.Second)
		failure := &Error{}
		if errors.As(err, &failure) {
			found = []byte(failure.Code)
		}
		if string(found) != want {
			t.Errorf("%s: %s, not %s", policy, found, want)
		}
		if _, err := query.EvaluateUnknown([]byte(input), [][]string{{"args", "gone"}, {"agent", "x"}}, time.Second); err != nil {
			t.Errorf("%s: places that are not there: %v", policy, err)
		}
	}
}
