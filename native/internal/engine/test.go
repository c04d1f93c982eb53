package engine

import (
	"cmp"
	"context"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/cover"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/tester"
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

// TestReport is a whole run, in the order of the sources.
type TestReport struct {
	Results  []TestResult `json:"results"`
	Coverage []Coverage   `json:"coverage"`
}

// Test does what `opa test` does.
func Test(options TestOptions) (*TestReport, error) {
	read, err := readPaths(append(slices.Clone(options.Paths), options.Beside...))
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
	ctx := context.Background()
	store := inmem.NewFromObject(l.documents)
	transaction, err := store.NewTransaction(ctx, storage.TransactionParams{Write: true})
	if err != nil {
		return nil, err
	}
	defer store.Abort(ctx, transaction)
	compiler := ast.NewCompiler().WithCapabilities(l.capabilities).WithEnablePrintStatements(true)
	covered := cover.New()
	results, err := tester.NewRunner().SetCompiler(compiler).SetStore(store).SetModules(l.modules).
		CapturePrintOutput(true).SetTimeout(testDeadline).SetCoverageQueryTracer(covered).Filter(options.Run).
		RunTests(ctx, transaction)
	if err != nil {
		return nil, policyError(err)
	}
	report := &TestReport{Results: []TestResult{}, Coverage: []Coverage{}}
	for each := range results {
		report.Results = append(report.Results, result(each))
	}
	slices.SortFunc(report.Results, func(left, right TestResult) int {
		return cmp.Or(cmp.Compare(left.Location.File, right.Location.File), left.Location.Row-right.Location.Row)
	})
	report.Coverage = l.coverage(covered, options.Beside)
	return report, nil
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
		if each.FailedAt != nil {
			ended.Message = each.FailedAt.String()
		}
	}
	for name, inner := range each.SubResults.Iter {
		if inner.Fail && len(inner.SubResults) == 0 {
			ended.Cases = append(ended.Cases, strings.Join(name, "/"))
		}
	}
	return ended
}

// coverage speaks of the policy alone: not of its tests, nor of what stands beside it.
func (l *source) coverage(covered *cover.Cover, beside []string) []Coverage {
	found := []Coverage{}
	for file, report := range covered.Report(l.modules).Files {
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
