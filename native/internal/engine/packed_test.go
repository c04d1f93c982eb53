package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/util"
)

func decoded(t testing.TB, text string) map[string]any {
	t.Helper()
	var data map[string]any
	if err := util.UnmarshalJSON([]byte(text), &data); err != nil {
		t.Fatal(err)
	}
	return data
}

// both is data in our store and in OPA's, which is how ours must answer.
func both(t testing.TB, data map[string]any) (ours *packed, theirs storage.Store) {
	t.Helper()
	to := newPacker()
	root, err := to.add(data)
	if err != nil {
		t.Fatal(err)
	}
	return to.packed(root), inmem.NewFromObjectWithOpts(data, inmem.OptReturnASTValuesOnRead(true))
}

func read1(t testing.TB, store storage.Store, path storage.Path) string {
	t.Helper()
	value, err := storage.ReadOne(context.Background(), store, path)
	if storage.IsNotFound(err) {
		return "nothing"
	}
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%T %v", value, value)
}

func agree(t testing.TB, ours *packed, theirs storage.Store, path storage.Path) {
	t.Helper()
	for range 2 { // built, and kept
		if got, want := read1(t, ours, path), read1(t, theirs, path); got != want {
			t.Fatalf("%q: %s, want %s", path, got, want)
		}
	}
	ctx := context.Background()
	transaction := storage.NewTransactionOrDie(ctx, theirs)
	defer theirs.Abort(ctx, transaction)
	got, _ := storage.NonEmpty(ctx, ours, nil)(path)
	if want, _ := storage.NonEmpty(ctx, theirs, transaction)(path); got != want {
		t.Fatalf("%q is taken: %v, want %v", path, got, want)
	}
}

// paths are all of a value, and beside each some that lead nowhere.
func paths(value any, so storage.Path) []storage.Path {
	found := []storage.Path{so}
	for _, stray := range []string{"", "stray", "0", "-1", "+1", "1.0", "01", "1e0", "99"} {
		found = append(found, append(so[:len(so):len(so)], stray))
	}
	switch value := value.(type) {
	case map[string]any:
		for name, inner := range value {
			found = append(found, paths(inner, append(so[:len(so):len(so)], name))...)
		}
	case []any:
		for i, inner := range value {
			found = append(found, paths(inner, append(so[:len(so):len(so)], fmt.Sprint(i)))...)
		}
	}
	return found
}

func TestPackedDataIsReadAsOPAReadsIt(t *testing.T) {
	for _, text := range []string{
		`{}`,
		`{"a": null, "b": true, "c": false, "d": "", "e": 0, "f": [], "g": {}, "": {"": [""]}}`,
		`{"1": 1, "a": "1", "b": [1, "1", 1.0, 1e0, 12345678901234567890, -0, 1.50]}`,
		`{"a": [[1, [2]], {"0": [{"x": "y"}]}], "é": "\u0000\ud83d\ude00\ufffd"}`,
		`{"b": 1, "a": 2, "ab": 3, "B": 4, "a\u0000": 5, "z": {"b": 1, "a": 2}}`,
	} {
		data := decoded(t, text)
		ours, theirs := both(t, data)
		for _, path := range paths(data, storage.Path{}) {
			agree(t, ours, theirs, path)
		}
	}
}

// tree of random values; names and scalars repeat.
func random(rng *rand.Rand, depth int) any {
	kinds := 7
	if depth == 0 {
		kinds = 5
	}
	switch rng.IntN(kinds) {
	case 0:
		return nil
	case 1:
		return rng.IntN(2) == 0
	case 2:
		return json.Number(fmt.Sprint(rng.IntN(9) - 4))
	case 3:
		return json.Number(fmt.Sprint(rng.NormFloat64()))
	case 4:
		return strings.Repeat(string(rune('a'+rng.IntN(4))), rng.IntN(4))
	case 5:
		array := make([]any, rng.IntN(12))
		for i := range array {
			array[i] = random(rng, depth-1)
		}
		return array
	default:
		return randomObject(rng, depth)
	}
}

func randomObject(rng *rand.Rand, depth int) map[string]any {
	object := map[string]any{}
	for range rng.IntN(40) {
		object[strings.Repeat(string(rune('a'+rng.IntN(6))), rng.IntN(5))+fmt.Sprint(rng.IntN(5))] = random(rng, depth-1)
	}
	return object
}

func FuzzPackedDataIsReadAsOPAReadsIt(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		data := randomObject(rand.New(rand.NewPCG(seed, seed)), 3)
		ours, theirs := both(t, data)
		for _, path := range paths(data, storage.Path{}) {
			agree(t, ours, theirs, path)
		}
	})
}

// documents are JSON texts, and what is none, on which readers differ.
var documents = []string{
	`{"a": [1, {"b": "c"}], "a": 2}`, `{"a": {"b": 1}, "a": {"c": 2}, "": 0, "a": {"d": [3, 3]}}`,
	"{\"a\": \"\xff\xfe\", \"\xff\": 1, \"\xfe\": 2}", `{"a": "\ud800", "b": "\ud83d\ude00", "c": "\u0000\/\b", "\u0061": 1}`,
	`{"a": 1e400, "b": -0, "c": 1E+2, "d": 0.10, "e": 123456789012345678901234567890}`,
	`{"a": 01}`, `{"a": .5}`, `{"a": +1}`, `{"a": 1.}`, `{"a": NaN}`, `{"a": 1,}`, `{"a" 1}`, `{a: 1}`, `{'a': 1}`, `[1, 2`,
	`{} {}`, `{}x`, `{}]`, ``, ` `, "\ufeff{}", "{\"a\": \"\t\"}", `{"a": "\x"}`, `{"a": tru}`, ` {"a" : [ ] } `, "\n[]\n", `null`, `"a"`,
	strings.Repeat("[", 9_000) + strings.Repeat("]", 9_000), strings.Repeat("[", 10_001) + strings.Repeat("]", 10_001),
	`{"` + strings.Repeat("k", 100) + `": 1, "` + strings.Repeat("k", 100) + `": 2}`,
}

func FuzzADocumentIsReadAsOPAReadsIt(f *testing.F) {
	for _, document := range documents {
		f.Add([]byte(document))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var want any
		refused := util.UnmarshalJSON(text, &want)
		to := newPacker()
		node, err := to.parse(bytes.Clone(text))
		if (err == nil) != (refused == nil) {
			t.Fatalf("%v, and OPA's reader: %v", err, refused)
		}
		if err != nil {
			return
		}
		got := to.packed(node).value(node)
		if term, err := ast.InterfaceToValue(want); err != nil || got.Compare(term) != 0 || got.String() != term.String() {
			t.Fatalf("%v, want %v", got, term)
		}
	})
}

func TestTheDataOfABundleIsWhatOPAsReaderTakes(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"one":                    {"data.json": `{"a": 1}`},
		"folders":                {"data.json": `{"a": 1}`, "b/data.json": `{"c": 2}`, "b/d/data.yaml": "e: [3]", "f/data.yml": "4"},
		"into one":               {"data.json": `{"b": {"a": 1}}`, "b/data.json": `{"c": {"x": 2}}`, "b/c/data.json": `{"y": 3}`},
		"a value of a folder":    {"b/data.json": `7`, "c/data.json": `null`, "d/data.json": `[]`},
		"twice":                  {"data.json": `{"b": {"a": 1}}`, "b/data.json": `{"a": 1}`},
		"a value and a folder":   {"data.json": `{"b": 1}`, "b/data.json": `{"a": 1}`},
		"json and yaml":          {"data.json": `{"a": 1}`, "data.yaml": "b: 2"},
		"json and yaml, twice":   {"data.json": `{"a": 1}`, "data.yaml": "a: 1"},
		"a root that is a list":  {"data.json": `[]`},
		"a root that is null":    {"data.json": `null`},
		"no JSON":                {"b/data.json": `{`},
		"no YAML":                {"b/data.yaml": "a: [", "data.json": `{}`},
		"other files":            {"a.json": `{"a": 1}`, "b/other.yaml": "c: 1", "notdata.json": `{}`, "c.txt": "x"},
		"a folder with dots":     {".b/data.json": `{"a": 1}`, "c.d/data.json": `{"a": 1}`},
		"what is written":        {"policies/a.yaml": "version: 1", "policies/data.yaml": "a: 1"},
		"nothing":                {},
		"an empty object":        {"data.json": `{}`, "b/data.json": `{}`},
		"inside the roots":       {".manifest": `{"roots": ["a", "b/c"]}`, "data.json": `{"a": 1, "b": {"c": {"d": 2}}}`},
		"outside the roots":      {".manifest": `{"roots": ["a", "b/c"]}`, "data.json": `{"a": 1, "b": {"d": 2}}`},
		"above the roots":        {".manifest": `{"roots": ["b/c"]}`, "b/data.json": `1`},
		"empty above the roots":  {".manifest": `{"roots": ["b/c"]}`, "b/data.json": `{}`},
		"empty beside the roots": {".manifest": `{"roots": ["b/c"]}`, "d/data.json": `{}`},
		"a name with a slash":    {".manifest": `{"roots": ["a/b"]}`, "data.json": `{"a/b": 1}`},
		"no roots":               {".manifest": `{"roots": []}`, "data.json": `{"a": 1}`},
		"no roots, no data":      {".manifest": `{"roots": []}`},
		"roots with slashes":     {".manifest": `{"roots": ["/a/"]}`, "a/data.json": `{"b": 1}`},
	} {
		t.Run(name, func(t *testing.T) {
			if _, has := files[".manifest"]; !has {
				files[".manifest"] = `{}`
			}
			packed := archive(t, files)
			want, refused := bundle.NewReader(bytes.NewReader(packed)).WithSkipBundleVerification(true).Read()
			delete(want.Data, "policies") // what people write there is no data of ours (isAuthored)
			if authored := files["policies/data.yaml"]; authored != "" {
				want.Data["policies"] = map[string]any{"a": json.Number("1")}
			}
			read, err := readArchive(packed, 0)
			if err != nil {
				t.Fatal(err)
			}
			loaded, err := read.load(Agent.capabilities(), isTest)
			if (err == nil) != (refused == nil) {
				t.Fatalf("%v, and OPA's reader: %v", err, refused)
			}
			if err != nil {
				return
			}
			store := loaded.data.packed(loaded.document)
			for _, path := range paths(want.Data, storage.Path{}) {
				agree(t, store, inmem.NewFromObjectWithOpts(want.Data, inmem.OptReturnASTValuesOnRead(true)), path)
			}
		})
	}
}

// TestADeltaIsNoPolicy: what it changes would be lost without a word.
func TestADeltaIsNoPolicy(t *testing.T) {
	for _, beside := range []string{"data.json", "other.txt"} {
		files := map[string]string{".manifest": `{}`, "patch.json": `{"data": [{"op": "upsert", "path": "/a", "value": 1}]}`, beside: `{"a": 1}`}
		if refused := refusal(t, Agent, files); refused.Code != "invalid_policy" {
			t.Fatal(refused)
		}
	}
}

// granted is a policy over teams of agents, each with a grant for each of twenty tools, and a list of all agents.
func granted(t testing.TB, rules string, agents int) *Policy {
	t.Helper()
	teams, list := map[string]map[string]map[string]map[string]int{"a": {}, "b": {}}, []string{}
	for agent := range agents {
		tools := map[string]map[string]int{}
		for tool := range 20 {
			tools[fmt.Sprintf("tool-%d", tool)] = map[string]int{"most": agent + tool}
		}
		name := fmt.Sprintf("agent-%d", agent)
		teams[string(rune('a'+agent%2))][name] = tools
		list = append(list, name)
	}
	text, err := json.Marshal(map[string]any{"teams": teams, "list": list})
	if err != nil {
		t.Fatal(err)
	}
	return open(t, Agent, map[string]string{"p.rego": "package authz\n" + rules, "data.json": string(text)})
}

// whole are the large documents that were built.
func (p *packed) whole() (found []string) {
	p.large.Range(func(node, _ any) bool {
		found = append(found, fmt.Sprint(node))
		return true
	})
	slices.Sort(found)
	return found
}

const byPath = "found := data.teams[input.team][input.agent][input.tool].most\n"

func TestWhatARuleReadsByItsPathIsAllThatIsBuilt(t *testing.T) {
	for _, rules := range []string{
		byPath,
		"found := most(input.team, input.agent)\nmost(team, agent) := data.teams[team][agent][input.tool].most\n",
		"found := tools[input.tool].most if { tools := data.teams[input.team][input.agent] }\n",
		"found := [n | n := data.teams[input.team][input.agent][input.tool].most][0]\n",
		"found := n if { some team in [\"none\", input.team]; n := data.teams[team][input.agent][input.tool].most }\n",
		"found := 0 if { false } else := n if { n := data.teams[input.team][input.agent][input.tool].most }\n",
	} {
		policy := granted(t, rules, 500)
		for agent := range 500 {
			input := fmt.Sprintf(`{"team": "%c", "agent": "agent-%d", "tool": "tool-7"}`, 'a'+agent%2, agent)
			if answer, err := ask(t, policy, "authz/found", input); err != nil || answer != fmt.Sprint(agent+7) {
				t.Fatal(rules, answer, err)
			}
		}
		if built := policy.store.whole(); len(built) > 0 {
			t.Fatalf("%s: %s", rules, built)
		}
	}
}

// TestNoCallWaitsForALargeDocument: to build it may take longer than a call has.
func TestNoCallWaitsForALargeDocument(t *testing.T) {
	for _, rules := range []string{
		"found := count(data.teams)\n",
		"found := count(data.list)\n",
		"found if input.agent in data.list\n",
		"found if data.list[_] == input.agent\n",
		"found := agents if { agents := data.teams[input.team] }\n",
		"found := agents[input.agent] if { agents := data.teams[input.team] }\n",
		"found := f(input.team)\nf(team) := count(data.teams[team])\n",
		"found if { some agent; data.teams[input.team][agent][input.tool].most == 3 }\n",
		"found if { some team; data.teams[team][input.agent] }\n",
		"found := object.get(data.teams, [input.team, input.agent], {})\n",
		"found := [tools | some tools in data.teams[input.team]]\n",
		"found := {agent | data.teams[input.team][agent]}\n",
		"found := {agent: 1 | some agent, _ in data.teams[input.team]}\n",
		"found := [1 | x := data.teams; x[input.team]]\n",
		"found if every name in data.list { startswith(name, \"agent\") }\n",
		"found if every team in [input.team] { count(data.teams[team]) > 0 }\n",
		"found contains agent if some agent in data.list\n",
		"found[agent] := tools if some agent, tools in data.teams[input.team]\n",
		"found := data.teams\n",
		"found := {\"all\": [data.list]}\n",
		"found if { walk(data.teams, [path, 499]) }\n",
		"found := count(object.keys(data.teams[input.team])) if true\nelse := data.list\n",
		"found if not none\nnone if { some name in data.list; name == input.agent }\n",
	} {
		policy := granted(t, rules, 500)
		built := policy.store.whole()
		for _, input := range []string{
			`{"team": "a", "agent": "agent-2", "tool": "tool-1"}`, `{"team": "b", "agent": "agent-3", "tool": "tool-1"}`, `{"team": "c"}`,
		} {
			if _, err := ask(t, policy, "authz/found", input); err != nil {
				t.Fatal(rules, err)
			}
		}
		if after := policy.store.whole(); len(built) == 0 || !slices.Equal(built, after) {
			t.Fatalf("%s: %s were built before, %s after the calls", rules, built, after)
		}
	}
}

func TestWhatWasBuiltWholeIsBuiltOnce(t *testing.T) {
	policy := granted(t, byPath, 50)
	path := storage.Path{"teams"}
	first, _ := storage.ReadOne(context.Background(), policy.store, path)
	second, _ := storage.ReadOne(context.Background(), policy.store, path)
	if first.(ast.Object) != second.(ast.Object) {
		t.Fatal("a table that is searched would be built for every call")
	}
}

func TestManyReadAtOnce(t *testing.T) {
	policy := granted(t, byPath+"listed if input.agent in data.list\n", 50)
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for agent := range 50 {
				input := fmt.Sprintf(`{"team": "%c", "agent": "agent-%d", "tool": "tool-1"}`, 'a'+agent%2, agent)
				if answer, err := ask(t, policy, "authz/found", input); err != nil || answer != fmt.Sprint(agent+1) {
					t.Error(answer, err)
				}
				if answer, err := ask(t, policy, "authz/listed", input); err != nil || answer != "true" {
					t.Error(answer, err)
				}
			}
		})
	}
	readers.Wait()
}

// TestDataTakesAtMostTwiceItsText: as terms it takes twenty times that, and the collector walks all of it.
func TestDataTakesAtMostTwiceItsText(t *testing.T) {
	policy := granted(t, byPath, 5_000)
	size := len(policy.store.text) + 4*len(policy.store.words)
	if int64(size) > 2*policy.bytes {
		t.Fatalf("%d bytes for %d of files", size, policy.bytes)
	}
}

func TestDataIsNotWritten(t *testing.T) {
	ours, _ := both(t, map[string]any{"a": json.Number("1")})
	ctx := context.Background()
	if storage.WriteOne(ctx, ours, storage.AddOp, storage.Path{"a"}, 2) == nil ||
		ours.Truncate(ctx, nil, storage.TransactionParams{}, nil) == nil || read1(t, ours, storage.Path{"a"}) != "ast.Number 1" {
		t.Fatal("written")
	}
	if _, err := newPacker().add(map[string]any{"a": 1}); code(err) != "internal" {
		t.Fatal(err)
	}
}
