package engine

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/cover"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/tester"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// testDeadline is what `opa test` gives each test.
const testDeadline = 5 * time.Second

// TestOptions say whose tests are run, and what stands beside them without its own. Run is a regular expression over
// names such as data.authz.policy_test.test_deny; empty runs all.
type TestOptions struct {
	Paths    []string `json:"paths"`
	Beside   []string `json:"beside"`
	Contract Contract `json:"contract"`
	Run      string   `json:"run"`
}

// Outcome is how a test ended.
type Outcome string

const (
	passed  Outcome = "pass"
	failed  Outcome = "fail"
	broken  Outcome = "error"
	skipped Outcome = "skip"
)

// TestResult is what became of one test. Cases are those that failed, of a test which has several.
type TestResult struct {
	Name        string    `json:"name"`
	Outcome     Outcome   `json:"outcome"`
	Location    *Location `json:"location,omitempty"`
	Cases       []string  `json:"cases"`
	Message     string    `json:"message"`
	Output      string    `json:"output"`
	Nanoseconds int64     `json:"ns"`
}

// Coverage is how much of a file the tests evaluated; Rows are the first rows of what they left out.
type Coverage struct {
	File    string  `json:"file"`
	Percent float64 `json:"percent"`
	Rows    []int   `json:"rows"`
}

// Held says whether a rule of the policy gave a value in some test.
type Held struct {
	Rule
	Held bool `json:"held"`
}

// TestReport is a whole run, in the order of the sources.
type TestReport struct {
	Results  []TestResult `json:"results"`
	Coverage []Coverage   `json:"coverage"`
	Rules    []Held       `json:"rules"`
}

// Test does what `opa test` does.
func Test(options TestOptions) (*TestReport, error) {
	read, err := readPaths(append(slices.Clone(options.Paths), options.Beside...), 0)
	if err != nil {
		return nil, policyError(err)
	}
	loaded, err := read.load(options.Contract.capabilities(), testsBelow(options.Beside))
	if err != nil {
		return nil, policyError(err)
	}
	return loaded.test(options)
}

// testsBelow skips the tests of what only stands beside.
func testsBelow(roots []string) func(string, fs.FileInfo, int) bool {
	return func(file string, status fs.FileInfo, depth int) bool {
		return isTest(file, status, depth) && below(roots, file)
	}
}

func below(roots []string, file string) bool {
	return slices.ContainsFunc(roots, func(root string) bool {
		return shown(file) == root || strings.HasPrefix(shown(file), strings.TrimSuffix(root, "/")+"/")
	})
}

func (l *source) test(options TestOptions) (*TestReport, error) {
	covered := cover.New()
	ended, err := l.run(func(runner *tester.Runner) *tester.Runner {
		return runner.SetCoverageQueryTracer(covered).Filter(options.Run)
	})
	if err != nil {
		return nil, err
	}
	seen := covered.Report(l.modules)
	report := &TestReport{
		Results:  []TestResult{},
		Coverage: l.coverage(seen, options.Beside),
		Rules:    l.held(seen, options.Beside),
	}
	var again []string
	for _, each := range ended {
		report.Results = append(report.Results, result(each))
		if each.Fail && len(each.SubResults) == 0 {
			again = append(again, regexp.QuoteMeta(each.Package+"."+each.Name))
		}
	}
	if len(again) == 0 {
		return report, nil
	}
	return report, l.locateFailures(report, "^("+strings.Join(again, "|")+")$")
}

// locateFailures runs what failed once more and looks where: to trace every test would be slow, and seldom needed.
func (l *source) locateFailures(report *TestReport, failed string) error {
	traced, err := l.run(func(runner *tester.Runner) *tester.Runner { return runner.EnableTracing(true).Filter(failed) })
	if err != nil {
		return err
	}
	messages := map[string]string{}
	for _, each := range traced {
		messages[each.Package+"."+each.Name] = failure(each)
	}
	for index, each := range report.Results {
		report.Results[index].Message = cmp.Or(each.Message, messages[each.Name])
	}
	return nil
}

// failure is the last condition in the test's own file that did not hold.
func failure(each *tester.Result) string {
	for _, event := range slices.Backward(each.Trace) {
		if event.Op == topdown.FailOp && event.Location != nil && event.Location.File == each.Location.File {
			text := strings.Join(strings.Fields(string(event.Location.Text)), " ")
			return fmt.Sprintf("row %d did not hold: %s", event.Location.Row, text)
		}
	}
	return ""
}

// run runs tests in the order of their sources.
func (l *source) run(configure func(*tester.Runner) *tester.Runner) ([]*tester.Result, error) {
	ctx := context.Background()
	store := l.data.packed(l.document)
	transaction, err := store.NewTransaction(ctx, storage.TransactionParams{Write: true})
	if err != nil {
		return nil, err
	}
	defer store.Abort(ctx, transaction)
	compiler := ast.NewCompiler().WithCapabilities(l.capabilities).WithEnablePrintStatements(true)
	runner := tester.NewRunner().SetCompiler(compiler).SetStore(store).SetModules(l.modules)
	results, err := configure(runner.CapturePrintOutput(true).SetTimeout(testDeadline)).RunTests(ctx, transaction)
	if err != nil {
		return nil, policyError(err)
	}
	var ended []*tester.Result
	for each := range results {
		ended = append(ended, each)
	}
	slices.SortFunc(ended, func(left, right *tester.Result) int {
		return cmp.Or(cmp.Compare(left.Location.File, right.Location.File), left.Location.Row-right.Location.Row)
	})
	return ended, nil
}

func result(each *tester.Result) TestResult {
	ended := TestResult{
		Name:        each.Package + "." + each.Name,
		Outcome:     passed,
		Location:    locate(each.Location),
		Cases:       []string{},
		Output:      string(each.Output),
		Nanoseconds: each.Duration.Nanoseconds(),
	}
	switch {
	case each.Skip:
		ended.Outcome = skipped
	case each.Error != nil:
		ended.Outcome, ended.Message = broken, each.Error.Error()
	case each.Fail:
		ended.Outcome = failed
	}
	for name, inner := range each.SubResults.Iter {
		if inner.Fail && len(inner.SubResults) == 0 {
			ended.Cases = append(ended.Cases, strings.Join(name, "/"))
		}
	}
	return ended
}

// coverage speaks of the policy alone: not of its tests, nor of what stands beside it.
func (l *source) coverage(seen cover.Report, beside []string) []Coverage {
	found := []Coverage{}
	for file, report := range seen.Files {
		if strings.HasSuffix(file, "_test.rego") || below(beside, file) || report.CoveredLines+report.NotCoveredLines == 0 {
			continue
		}
		rows := []int{}
		for _, gap := range report.NotCovered {
			rows = append(rows, gap.Start.Row)
		}
		found = append(found, Coverage{File: shown(file), Percent: report.Coverage, Rows: rows})
	}
	slices.SortFunc(found, func(left, right Coverage) int { return cmp.Compare(left.File, right.File) })
	return found
}

// held lists the rules of the policy alone, in the order of the sources.
func (l *source) held(seen cover.Report, beside []string) []Held {
	found := []Held{}
	for _, module := range inOrder(l.modules) {
		file := module.Package.Location.File
		if strings.HasSuffix(file, "_test.rego") || below(beside, file) {
			continue
		}
		ast.WalkRules(module, func(rule *ast.Rule) bool {
			if !rule.Default {
				written := Rule{rule.Ref().String(), string(rule.Location.Text), locate(rule.Location)}
				found = append(found, Held{written, seen.IsCovered(file, rule.Head.Location.Row)})
			}
			return false
		})
	}
	return found
}
