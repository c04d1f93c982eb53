package engine

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func codes(found []Problem) string {
	listed := []string{}
	for _, problem := range found {
		listed = append(listed, problem.Code)
	}
	return strings.Join(listed, " ")
}

func TestAdviceNamesEachTrapAndNothingElse(t *testing.T) {
	cases := map[string]string{
		"default allow := true":                                              "default_allow",
		`default decision := {"effect": "allow"}`:                            "default_allow",
		"default allow := false":                                             "",
		"_deny contains 1 if input.x\nallow if count(_deny) == 0":            "allow_by_absence",
		"_deny contains 1 if input.x\nallow if 0 == count(_deny)":            "allow_by_absence",
		"_deny contains 1 if input.x\nallow := true if not _deny":            "allow_by_absence negated_set",
		`_d := {1 | input.x}` + "\n" + `effect := "allow" if count(_d) == 0`: "allow_by_absence",
		"_deny contains 1 if input.x\nallow if {count(_deny) == 0; input.y}": "",
		"_deny contains 1 if input.x\n_calm if count(_deny) == 0":            "",
		"_deny contains 1 if input.x\n_calm if not _deny":                    "negated_set",
		"_deny contains 1 if input.x\n_calm if not data.authz._deny":         "negated_set",
		"_deny contains 1 if input.x\n_calm if not _deny[1]":                 "",
		"_deny[1] := 2 if input.x\n_calm if not _deny[1]":                    "",
		`_calm if "a" != input.xs[_]`:                                        "unequal_to_some",
		`_calm if input.xs[_].y != "a"`:                                      "unequal_to_some",
		`_calm if {some i; "a" != input.xs[i]}`:                              "",
		`_calm if "a" != input.xs[0]`:                                        "",
		`allow if every x in input.xs { x == 1 }`:                            "vacuous_every",
		`allow if {count(input.xs) > 0; every x in input.xs { x == 1 }}`:     "",
		`allow if {not input.xs; every x in input.xs { x == 1 }}`:            "vacuous_every",
		`allow if every x in {1, 2} { x == input.y }`:                        "",
		`_calm if every x in input.xs { x == 1 }`:                            "",
		`allow if {xs := {x | some x in input.xs}; count(xs - {1}) == 0}`:    "allow_by_absence",
		`allow if {xs := input.xs; count(xs) == 0}`:                          "",
		`outcomes contains {"effect": "deny"} if not input.x`:                "",
		`_x if {input.a == "a"; input.a == "b"}`:                             "unreachable_rule",
		`_x if {input.a in {"a", "c"}; "b" == input.a}`:                      "unreachable_rule",
		`_x if {input.a in {"a", "b"}; input.a == "b"}`:                      "",
		`_x if {input.a == "a"; not input.a == "b"}`:                         "",
		`_x if {input.a == "a"; input.b == "b"}`:                             "",
		`d := "allow" if {input.a} else := "deny" if {input.b}`:              "shadowed_deny",
		`d := "allow" if {input.a} else := "deny"`:                           "",
		`d := "deny" if {input.a} else := "allow" if {input.b}`:              "",
		`deny contains 1 if to_number(input.a) > 1`:                          "deny_can_fail",
		`deny contains 1 if {x := time.parse_rfc3339_ns(input.a); x > 1}`:    "deny_can_fail",
		`deny contains 1 if input.a / input.b > 1`:                           "deny_can_fail",
		`deny contains 1 if regex.match(input.a, "x")`:                       "deny_can_fail",
		`deny contains 1 if {regex.match("x", input.a); input.a / 2 > 1}`:    "",
		`allow if to_number(input.a) > 1`:                                    "",
		`outcomes contains {"effect": "allow"} if not input.x`:               "allow_by_absence",
	}
	for policy, want := range cases {
		root := tree(t, map[string]string{"p.rego": "# METADATA\n# title: t\n# scope: package\npackage authz\n\n" + policy + "\n"})
		found, err := Check(CheckOptions{Paths: []string{root}, Contract: Agent})
		found = slices.DeleteFunc(found, func(problem Problem) bool {
			return slices.Contains([]string{"missing_metadata", "not_formatted"}, problem.Code)
		})
		if err != nil || codes(found) != want {
			t.Errorf("%s: %v %v", policy, found, err)
		}
	}
}

func TestAmongManyRulesTheOnesThatMeetEveryCallAreNamed(t *testing.T) {
	text := strings.Builder{}
	text.WriteString("package authz\n\n")
	for number := range hotRules - 1 {
		fmt.Fprintf(&text, "_many contains %d if input.tool.name == \"t%d\"\n\n", number, number)
	}
	hot := "_many contains -1 if {\n\tinput.phase == \"call\"\n\tinput.x > 1\n}\n"
	for many, want := range map[string]string{text.String() + hot: "unindexed_rule", text.String(): ""} {
		root := tree(t, map[string]string{"p.rego": strings.TrimRight(many, "\n") + "\n"})
		if found, err := Check(CheckOptions{Paths: []string{root}, Contract: Agent}); err != nil || codes(found) != want {
			t.Fatal(found, err)
		}
	}
}

func TestModulesThatAreNotInTheStandardFormAreNamed(t *testing.T) {
	for policy, want := range map[string]string{
		"package authz\n\n_x := 1\n": "", "package authz\n\n_x  :=  1\n": "not_formatted",
	} {
		for _, manifest := range []map[string]string{{}, {".manifest": "{}"}} {
			manifest["p.rego"] = policy
			root := tree(t, manifest)
			if found, err := Check(CheckOptions{Paths: []string{root}, Contract: Agent}); err != nil || codes(found) != want {
				t.Fatal(found, err)
			}
		}
	}
}

func TestPublicRulesWithoutMetadataAreNamedOnce(t *testing.T) {
	root := tree(t, map[string]string{
		"p.rego": `package authz

bare contains 1 if input.x

bare contains 2 if input.y

# METADATA
# title: described
# scope: document
described := 1 if input.x

described := 1 if input.y

_private := 1
`,
		"p_test.rego": "package authz_test\n\ntest_nothing if true\n",
	})
	found, err := Check(CheckOptions{Paths: []string{root}, Contract: Agent})
	found = slices.DeleteFunc(found, func(problem Problem) bool { return problem.Code == "not_formatted" })
	if err != nil || len(found) != 1 || found[0].Location.Row != 3 || !strings.Contains(found[0].Message, "data.authz.bare") {
		t.Fatal(found, err)
	}
}

func TestCheckHoldsAPolicyToItsContract(t *testing.T) {
	root := tree(t, map[string]string{"p.rego": `package authz

_answer := http.send({"url": input.url, "method": "get"})
`})
	if found, err := Check(CheckOptions{Paths: []string{root}, Contract: Agent}); err != nil || codes(found) != "rego_type_error" {
		t.Fatal(found, err)
	}
	if found, err := Check(CheckOptions{Paths: []string{root}, Contract: Envoy}); err != nil || codes(found) != "undecidable_builtin" {
		t.Fatal(found, err)
	}
}

const tested = `package authz_test

import data.authz
import data.library

test_pass if authz.allow with input as {"who": "ann"}

test_fail if authz.allow with input as {"who": "eve"}

test_many[name] if {
	some name, who in {"good": "ann", "bad": "eve"}
	authz.allow with input as {"who": who}
	print("asked", who)
}

todo_test_later if false

test_beside if library.known == {"ann"}
`

func TestTestsAreRunWithWhatStandsBesideThem(t *testing.T) {
	root := tree(t, map[string]string{
		"p.rego":           "package authz\n\nimport data.library\n\nallow if input.who in library.known\n\nunused if input.never\n",
		"p_test.rego":      tested,
		"tests/table.yaml": "cases: []\n",
		"tests/other.yaml": "cases: []\n",
	})
	library := tree(t, map[string]string{
		"l.rego":      "package library\n\nknown := {\"ann\"}\n",
		"l_test.rego": "package library_test\n\ntest_not_ours if false\n",
	})
	report, err := Test(TestOptions{Paths: []string{root}, Beside: []string{library}, Contract: Agent})
	if err != nil {
		t.Fatal(err)
	}
	outcomes := []string{}
	for _, each := range report.Results {
		outcomes = append(outcomes, strings.TrimPrefix(each.Name, "data.authz_test.")+"="+string(each.Outcome))
	}
	want := "test_pass=pass test_fail=fail test_many=fail todo_test_later=skip test_beside=pass"
	if got := strings.Join(outcomes, " "); got != want {
		t.Fatal(got)
	}
	if message := report.Results[1].Message; !strings.HasPrefix(message, "row 8 did not hold: authz.allow") {
		t.Fatal(message)
	}
	many := report.Results[2]
	if strings.Join(many.Cases, " ") != "bad" || !strings.Contains(many.Output, "asked ann") || many.Location.Row != 10 {
		t.Fatalf("%+v", many)
	}
	rules := []string{}
	for _, rule := range report.Rules {
		rules = append(rules, fmt.Sprint(rule.Name, "=", rule.Held))
	}
	if strings.Join(rules, " ") != "data.authz.allow=true data.authz.unused=false" {
		t.Fatal(rules)
	}
	if len(report.Coverage) != 1 || !slices.Contains(report.Coverage[0].Rows, 7) || report.Coverage[0].Percent == 100 {
		t.Fatalf("%+v", report.Coverage)
	}
}

func TestARunTakesTheTestsThatAreNamed(t *testing.T) {
	root := tree(t, map[string]string{"p_test.rego": "package authz_test\n\ntest_one if true\n\ntest_two if false\n"})
	report, err := Test(TestOptions{Paths: []string{root}, Contract: Agent, Run: "one$"})
	if err != nil || len(report.Results) != 1 || report.Results[0].Outcome != passed {
		t.Fatal(report, err)
	}
}

func TestTestsThatDoNotCompileSayWhere(t *testing.T) {
	root := tree(t, map[string]string{"p_test.rego": "package authz_test\n\ntest_one if nowhere\n"})
	_, err := Test(TestOptions{Paths: []string{root}, Contract: Agent})
	if refused, isOurs := err.(*Error); !isOurs || len(refused.Problems) != 1 || refused.Problems[0].Location.Row != 3 {
		t.Fatal(err)
	}
}
