package engine

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
)

const second = time.Second

func open(t testing.TB, contract Contract, files map[string]string) *Policy {
	t.Helper()
	policy, err := NewCache().Open(Options{Paths: []string{tree(t, files)}, Contract: contract})
	if err != nil {
		t.Fatalf("%v %+v", err, policyError(err).Problems)
	}
	return policy
}

func refusal(t testing.TB, contract Contract, files map[string]string) *Error {
	t.Helper()
	_, err := NewCache().Open(Options{Paths: []string{tree(t, files)}, Contract: contract})
	refused := &Error{}
	if !errors.As(err, &refused) {
		t.Fatalf("opened, or %v", err)
	}
	return refused
}

func ask(t testing.TB, policy *Policy, entrypoint, input string) (string, error) {
	t.Helper()
	query, err := policy.Prepare(entrypoint)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := query.Evaluate([]byte(input), second)
	return string(answer), err
}

func code(err error) string {
	failure := &Error{}
	if errors.As(err, &failure) {
		return failure.Code
	}
	return fmt.Sprint(err)
}

func TestEvaluationEndsInAResultUndefinedOrACode(t *testing.T) {
	policy := open(t, Agent, map[string]string{"policy.rego": `package authz
value := {"name": input.name, "set": {3, 1, 2}, "text": "a\"\n\u00e9<", "big": 12345678901234567890, 1: null}
undefined if input.absent
conflict := 1 if input.name
conflict := 2 if input.name
builtin := json.unmarshal(input.name)
divided := 1 / input.zero
endless := count([x | some x in numbers.range(1, 100000); some y in numbers.range(1, 100000); x == y + 100000])
ranged := numbers.range(1, 1000000000)
`})
	for _, c := range []struct{ entrypoint, input, want, code string }{
		{"authz/value", `{"name": "n"}`, `{"1":null,"big":12345678901234567890,"name":"n","set":[1,2,3],"text":"a\"\né\u003c"}`, "<nil>"},
		{"authz/undefined", `{}`, "", "<nil>"},
		{"authz/value", `{}`, "", "<nil>"},
		{"authz/conflict", `{"name": 1}`, "", "conflict"},
		{"authz/builtin", `{"name": "{"}`, "", "builtin"},
		{"authz/divided", `{"zero": 0}`, "", "builtin"},
		{"authz/value", `{`, "", "input"},
		{"authz/value", `{} {}`, "", "input"},
	} {
		t.Run(c.entrypoint+c.input, func(t *testing.T) {
			answer, err := ask(t, policy, c.entrypoint, c.input)
			if answer != c.want || code(err) != c.code {
				t.Fatalf("got %s, %v", answer, err)
			}
		})
	}
	for _, entrypoint := range []string{"authz/endless", "authz/ranged"} {
		t.Run(entrypoint, func(t *testing.T) {
			query, _ := policy.Prepare(entrypoint)
			began := time.Now()
			_, err := query.Evaluate([]byte(`{}`), 20*time.Millisecond)
			if took := time.Since(began); code(err) != "timeout" || took > second/2 {
				t.Fatalf("%v after %v", err, took)
			}
			if answer, err := ask(t, policy, "authz/value", `{"name": 1}`); err != nil || answer == "" {
				t.Fatalf("afterwards %s, %v", answer, err)
			}
		})
	}
}

func TestErrorsNameThePlaceAndNeverQuoteTheInput(t *testing.T) {
	policy := open(t, Agent, map[string]string{"policy.rego": "package authz\n\nvalue := json.unmarshal(input.secret)\n"})
	_, err := ask(t, policy, "authz/value", `{"secret": "hunter2"}`)
	failure := err.(*Error)
	if failure.Location == nil || failure.Location.Row != 3 || !strings.HasSuffix(failure.Location.File, "/policy.rego") {
		t.Fatalf("location %+v", failure.Location)
	}
	if content, _ := json.Marshal(failure); bytes.Contains(content, []byte("hunter2")) {
		t.Fatalf("%s", content)
	}
}

func TestABuiltinThatFailsFailsUnderOurContractAndIsUndefinedUnderThePlugins(t *testing.T) {
	files := map[string]string{"policy.rego": "package authz\ndefault value := false\nvalue if json.unmarshal(input.name)\n"}
	if _, err := ask(t, open(t, Agent, files), "authz/value", `{"name": "{"}`); code(err) != "builtin" {
		t.Fatal(err)
	}
	if answer, err := ask(t, open(t, Envoy, files), "authz/value", `{"name": "{"}`); err != nil || answer != "false" {
		t.Fatal(answer, err)
	}
}

func TestG7BuiltinsWhoseAnswerCannotBeReplayedDoNotExistUnderOurContract(t *testing.T) {
	for _, call := range []string{
		`http.send({"method": "get", "url": "http://127.0.0.1"})`,
		`net.lookup_ip_addr("localhost")`,
		`net.cidr_contains("10.0.0.0/8", "10.1.1.1")`,
		`opa.runtime()`,
		`rand.intn("x", 3)`,
		`time.now_ns()`,
		`uuid.rfc4122("x")`,
	} {
		t.Run(call, func(t *testing.T) {
			files := map[string]string{"policy.rego": "package authz\nvalue := x if {\n\tx := " + call + "\n}\n"}
			if problems := refusal(t, Agent, files).Problems; problems[0].Location.Row != 3 {
				t.Fatalf("%+v", problems)
			}
			if warnings := open(t, Envoy, files).Warnings; !strings.HasPrefix(call, "net.cidr") && len(warnings) != 1 {
				t.Fatalf("warnings %+v", warnings)
			}
		})
	}
}

func TestWithDoesNotBringAMissingBuiltinBack(t *testing.T) {
	refused := refusal(t, Agent, map[string]string{"policy.rego": `package authz
value if startswith("a", "b") with startswith as http.send
f(x) := x
other if count("a") with count as time.now_ns
`})
	if len(refused.Problems) < 2 {
		t.Fatalf("%+v", refused.Problems)
	}
}

func TestTheSamePolicyIsCompiledAndPreparedOnce(t *testing.T) {
	cache := NewCache()
	options := Options{Paths: []string{tree(t, map[string]string{"p.rego": "package authz\nvalue := 1\n"})}, Contract: Agent}
	first, err := cache.Open(options)
	if err != nil {
		t.Fatal(err)
	}
	again, _ := cache.Open(options)
	one, _ := first.Prepare("authz/value")
	two, _ := again.Prepare("authz/value")
	if first != again || one != two || cache.Stats() != (CacheStats{Policies: 1, Queries: 1, Hits: 1, Misses: 1}) {
		t.Fatalf("%+v", cache.Stats())
	}
	cache.Close(first)
	if cache.Stats().Policies != 1 {
		t.Fatal("closed while somebody holds it")
	}
	cache.Close(again)
	if cache.Stats().Policies != 0 {
		t.Fatal("never let go")
	}
}

func TestAnEntrypointWithNothingThereIsRefused(t *testing.T) {
	policy := open(t, Agent, map[string]string{"p.rego": "package authz\nvalue := 1\n", "data.json": `{"limits": 1}`})
	for entrypoint, want := range map[string]string{
		"authz/valeu": "entrypoint_undefined", "": "<nil>", "limits": "<nil>", "authz": "<nil>", "/authz/value": "<nil>",
		"a/%zz": "entrypoint",
	} {
		if _, err := policy.Prepare(entrypoint); code(err) != want {
			t.Errorf("%q: %v", entrypoint, err)
		}
	}
}

func TestPrintsAreKeptWithTheirPlaceAndBounded(t *testing.T) {
	policy := open(t, Agent, map[string]string{"p.rego": "package authz\nvalue if print(\"seen\", input.n)\n"})
	TakePrints()
	for range maxPrints + 5 {
		if _, err := ask(t, policy, "authz/value", `{"n": 1}`); err != nil {
			t.Fatal(err)
		}
	}
	lines, dropped := TakePrints()
	if len(lines) != maxPrints || dropped != 5 || lines[0].Text != "seen 1" || lines[0].Location.Row != 2 {
		t.Fatal(len(lines), dropped, lines[0])
	}
}

func TestAnExplanationNamesWhatHeldAndWhatDidNot(t *testing.T) {
	policy := open(t, Agent, map[string]string{"p.rego": `package authz

default decision := "deny"

decision := "allow" if {
	input.agent == "a"
	input.amount < limit
}

limit := 10
`})
	query, _ := policy.Prepare("authz/decision")
	explained, err := query.Explain([]byte(`{"agent": "a", "amount": 50}`), second)
	if err != nil {
		t.Fatal(err)
	}
	if string(explained.Result) != `"deny"` || explained.Failed[0].Text != "input.amount < limit" || explained.Failed[0].Location.Row != 7 {
		t.Fatalf("%+v", explained)
	}
	if len(explained.Rules) != 2 || explained.Rules[1].Location.Row != 3 || len(explained.Profile) == 0 {
		t.Fatalf("%+v", explained)
	}
}

func TestCheckFindsUnknownInputPaths(t *testing.T) {
	root := tree(t, map[string]string{"p.rego": "package authz\n\n_value if input.tool.nmae == \"x\"\n"})
	schema := filepath.Join(tree(t, map[string]string{"input.json": `{
		"type": "object", "additionalProperties": false,
		"properties": {"tool": {"type": "object", "additionalProperties": false, "properties": {"name": {"type": "string"}}}}
	}`}), "input.json")
	found, err := Check(CheckOptions{Paths: []string{root}, Schema: schema})
	if err != nil || len(found) != 1 || found[0].Location.Row != 3 {
		t.Fatal(found, err)
	}
	if found, err := Check(CheckOptions{Paths: []string{root}}); err != nil || len(found) != 0 {
		t.Fatal(found, err)
	}
}

func TestReferencesListEveryReadOfTheInput(t *testing.T) {
	policy := open(t, Agent, map[string]string{"p.rego": `package authz
import input.agent as who
value if { who.id == "a"; some key; input.args[key].amount > 1 }
`})
	var paths []string
	for _, reference := range policy.References {
		paths = append(paths, strings.Join(reference.Path, "."))
	}
	slices.Sort(paths)
	if got := strings.Join(slices.Compact(paths), " "); got != "agent.id args" {
		t.Fatal(got)
	}
}

func TestEveryValueOfRegoIsWrittenAsOPAWouldWriteIt(t *testing.T) {
	for _, text := range []string{
		`null`, `true`, `1.50e3`, `"\u0000\u2028</script>\\"`, `[]`, `{}`, `[1, [2, {"a": {3, 1}}]]`,
		`{{"set"}: 1, [1]: 2, null: 3, true: 4, 1.5: 5}`,
	} {
		value := ast.MustParseTerm(text).Value
		native, err := ast.JSON(value)
		if err != nil {
			t.Fatal(err)
		}
		want, _ := json.Marshal(native)
		got, err := appendJSON(nil, value)
		if err != nil {
			t.Fatal(err)
		}
		var left, right any
		if json.Unmarshal(want, &left) != nil || json.Unmarshal(got, &right) != nil || fmt.Sprint(left) != fmt.Sprint(right) {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
}

func BenchmarkEvaluate(b *testing.B) {
	policy := open(b, Agent, map[string]string{"p.rego": `package authz
default decision := {"effect": "deny", "reason": "default"}
decision := {"effect": "allow", "reason": "granted"} if {
	some grant in data.grants[input.agent.tenant][input.agent.id]
	grant.tool == input.tool.name
	every value in object.union(input.args, {}) { not regex.match("(?i)drop\\s+table", sprintf("%v", [value])) }
}
`, "data.json": grants()})
	query, err := policy.Prepare("authz/decision")
	if err != nil {
		b.Fatal(err)
	}
	input := []byte(benchmarkInput)
	b.ReportAllocs()
	for b.Loop() {
		answer, err := query.Evaluate(input, second)
		if err != nil || !bytes.Contains(answer, []byte("allow")) {
			b.Fatal(string(answer), err)
		}
	}
}

// grants is a table of 10 tenants, 20 agents each, 50 tools each.
func grants() string {
	tenants := map[string]any{}
	for t := range 10 {
		agents := map[string]any{}
		for a := range 20 {
			tools := []any{}
			for n := range 50 {
				tools = append(tools, map[string]any{"tool": fmt.Sprintf("tool%d", n)})
			}
			agents[fmt.Sprintf("a%d", a)] = tools
		}
		tenants[fmt.Sprintf("t%d", t)] = agents
	}
	content, _ := json.Marshal(map[string]any{"grants": tenants})
	return string(content)
}

const benchmarkInput = `{"agent": {"tenant": "t5", "id": "a11", "scopes": ["tools:call"], "parents": []}, "tool": {"server": "s",
"name": "tool25", "method": "tools/call"}, "args": {"recipient": "ACME", "amount": 12, "memo": "invoice 7", "currency": "EUR"},
"http": {"method": "POST", "path": "/mcp", "headers": {}}, "time": {"rfc3339": "2026-01-01T00:00:00Z", "unix_ns": 1767225600000000000}}`

func TestPatternsAreCompiledOnceForAPolicyAndNotKeptWithoutBound(t *testing.T) {
	policy := open(t, Agent, map[string]string{"p.rego": "package authz\nv if regex.match(input.pattern, \"a\")\n"})
	query, err := policy.Prepare("authz/v")
	if err != nil {
		t.Fatal(err)
	}
	kept := 0
	for n := range maxValues + 10 {
		if _, err := query.Evaluate(fmt.Appendf(nil, `{"pattern": "%d"}`, n), second); err != nil {
			t.Fatal(err)
		}
	}
	for n := range maxValues + 10 {
		if _, known := policy.values.Get(ast.String(fmt.Sprint(n))); known {
			kept++
		}
	}
	if kept != maxValues {
		t.Fatal(kept)
	}
}
