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
		`decision := "allow"`:                                                                             `"allow"`,
		`decision := "allow" if input.agent == "a"`:                                                       `"allow"`,
		`decision := "allow" if input.args.iban == "x"`:                                                   undecidable,
		`decision := "allow" if {input.args.iban == "x"; input.agent == "b"}`:                             undecidable,
		`decision := "allow" if {input.args.amount > 2; input.args.note[0] == "x"}`:                       `"allow"`,
		`decision := "allow" if input.args.note[1] == "x"`:                                                undecidable,
		`decision := "allow" if "x" in input.args.note`:                                                   undecidable,
		`decision := "allow" if {some word in input.args.note; word == "y"}`:                              undecidable,
		`decision := "allow" if not input.args.iban`:                                                      "",
		"default decision := \"deny\"\ndecision := \"allow\" if input.agent == \"b\"":                     `"deny"`,
		"default decision := \"deny\"\ndecision := \"allow\" if input.args.iban == \"b\"":                 undecidable,
		"decision := \"one\" if input.agent == \"b\"\nelse := \"two\"":                                    `"two"`,
		"decision := \"one\" if input.args.iban == \"b\"\nelse := \"two\"":                                undecidable,
		"_f(x) := input.args.iban if x\ndecision := _f(true)":                                             undecidable,
		"_f(x) := input.args.amount if x\ndecision := _f(true)":                                           `3`,
		`decision := count([x | walk(input.args, [_, x])])`:                                               undecidable,
		`decision := count(input.args)`:                                                                   undecidable,
		`_small(args, name) if args[name] < 5` + "\n" + `decision := "x" if _small(input.args, "amount")`: `"x"`,
		`_small(args, name) if args[name] < 5` + "\n" + `decision := "x" if _small(input.args, "iban")`:   undecidable,
		`_of("b") := 1` + "\n" + `_of("c") := 2` + "\n" + `decision := _of(input.args.iban)`:              undecidable,
		`_iban := input.args.iban` + "\n" + `decision := "x" if _iban == "b"`:                             undecidable,
		`_iban := input.args.iban` + "\n" + `decision := "x" if _iban`:                                    `"x"`,
		`_args := input.args` + "\n" + `decision := "x" if _args.iban == "b"`:                             undecidable,
		`_args := input.args` + "\n" + `decision := "x" if _args.amount == 3`:                             undecidable,
		`decision := "x" if {"b": 1}[input.args.iban]`:                                                    undecidable,
		`_known := {"b"}` + "\n" + `decision := "x" if input.args.iban in _known`:                         undecidable,
		`_known := {"b"}` + "\n" + `decision := "x" if _known[input.args.iban]`:                           undecidable,
		`decision := "x" if [input.args.iban, 3] == ["b", 3]`:                                             undecidable,
		`decision := "x" if object.get(input.args, "amount", 0) == 3`:                                     `"x"`,
		`decision := "x" if object.get(input.args, "iban", 0) == "b"`:                                     undecidable,
		`decision := "x" if {w | some w in input.args.note} == {"b"}`:                                     undecidable,
		`decision := "x" if not input.args.iban == "b"`:                                                   undecidable,
		`_h := input.args.iban` + "\n" + `_h := "b"` + "\n" + `decision := "x" if _h`:                     undecidable,
		`decision := {"effect": "x"} if is_object(input.args)`:                                            `{"effect":"x"}`,
		`decision := "x" if is_string(input.args.iban)`:                                                   undecidable,
		`decision := {"a": input.args.iban}`:                                                              undecidable,
		"_deny contains \"x\" if input.args.iban == \"x\"\ndecision := count(_deny)":                      undecidable,
		"_deny contains \"x\" if input.agent == \"x\"\ndecision := count(_deny)":                          `0`,
		`decision := "x" if every word in input.args.note { word != "y" }`:                                undecidable,
		`decision := json.marshal(input)`:                                                                 undecidable,
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
		_, err = query.EvaluateUnknown([]byte(input), [][]string{{"args", "gone"}, {"agent", "x"}}, time.Second)
		if errors.As(err, &failure) && failure.Code == undecidable {
			t.Errorf("%s: places that are not there: %v", policy, err)
		}
	}
}
