package engine

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
)

func BenchmarkParseInput(b *testing.B) {
	for name, parse := range map[string]func([]byte) (ast.Value, error){
		"ours":  func(input []byte) (ast.Value, error) { return parseInput(input, everything) },
		"OPA's": func(input []byte) (ast.Value, error) { return ast.ValueFromReader(bytes.NewReader(input)) },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := parse([]byte(benchmarkInput)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestInputsAreReadAsOPAReadsThem(t *testing.T) {
	for _, text := range []string{
		benchmarkInput, `null`, `[]`, `{}`, `"\ud83d\ude00\u0000"`, `1e3`, `-0`, `12345678901234567890`, `[[{"a": [true, false, null]}]]`,
	} {
		want, err := ast.ValueFromReader(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := parseInput([]byte(text), everything); err != nil || got.Compare(want) != 0 {
			t.Errorf("%s: got %v, %v", text, got, err)
		}
	}
	for _, text := range []string{``, `{"a": 1, "a": 2}`, `nul`, `[1`, `"\ud800"`, "\"\xff\"", `1 2`, strings.Repeat("[", 2000)} {
		if got, err := parseInput([]byte(text), everything); code(err) != "input" {
			t.Errorf("%s: got %v, %v", text, got, err)
		}
	}
}

func TestWhatNoRuleReadsOfTheInputIsNotSeenAndNothingElseChanges(t *testing.T) {
	input := []byte(`{"a": {"b": {"c": 1, "d": [{"e": 2}]}, "f": "x"}, "\u0061\"": {"g": 3}, "h": [1, {"i": 4}], "j": null}`)
	for _, policy := range []string{
		`v := input`,
		`v := input.a.b.c`,
		`v := input.a.b`,
		`v := [input.a.b.d[0].e, input.h[1].i]`,
		`v := input["a\""]`,
		`v := count(input)`,
		`v := {key | some key, _ in input}`,
		`v := {key: value | value := input.a[key]}`,
		`v := object.get(input, ["a", "b", "c"], "absent")`,
		`v := object.keys(input.a.b)`,
		`v := [path | walk(input.a, [path, _])]`,
		`v := f(input)` + "\n" + `f(x) := x.a.f`,
		`v := x if x := g with input.a.f as "y"` + "\n" + `g := input`,
		`v := x if x := g with input as {"z": input.a.f}` + "\n" + `g := input.z`,
		`v := data.names[input.a.f]`,
		`v := input.j`,
		`v := {"undefined": true} if not input.absent.key`,
		`v if { every x in input.h { x } }`,
		`v := $"{input.a.f} and {input.a.b.c}"`,
		"import input.a.b as short\n" + `v := short.c`,
		"import input as all\n" + `v := all.a`,
		`default v := "none"` + "\n" + `v := input.a.f if input.a.f.g.h`,
	} {
		opened := open(t, Agent, map[string]string{"p.rego": "package authz\n" + policy + "\n", "data.json": `{"names": {"x": 5}}`})
		query, err := opened.Prepare("authz/v")
		if err != nil {
			t.Fatal(policy, err)
		}
		got, gotError := query.Evaluate(input, second)
		opened.seen = everything
		want, wantError := query.Evaluate(input, second)
		if string(got) != string(want) || fmt.Sprint(gotError) != fmt.Sprint(wantError) {
			t.Errorf("%s: got %s %v, want %s %v", policy, got, gotError, want, wantError)
		}
	}
}

func TestWhatNoRuleReadsOfTheInputIsSkippedAndStillHasToBeJSON(t *testing.T) {
	seen := open(t, Agent, map[string]string{"p.rego": "package authz\nv := [input.a.b, input.c]\n"}).seen
	value, err := parseInput([]byte(`{"a": {"x": 1, "b": {"y": 2}}, "c": [{"z": 3}], "d": {"secret": 4}}`), seen)
	if want := ast.MustParseTerm(`{"a": {"b": {"y": 2}}, "c": [{"z": 3}]}`); err != nil || value.Compare(want.Value) != 0 {
		t.Fatal(value, err)
	}
	for _, text := range []string{`{"d": {"x": 1, "x": 2}}`, `{"d": [1}`, `{"d": "\ud800"}`, `{"d": 1, "d": 2}`, `{"d": 01}`, `{"d"`, `{1: 2}`} {
		if value, err := parseInput([]byte(text), seen); code(err) != "input" {
			t.Errorf("%s: got %v, %v", text, value, err)
		}
	}
}
