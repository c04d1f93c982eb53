package engine

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// tree writes files into a directory of the test's own.
func tree(t testing.TB, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func archive(t testing.TB, files map[string]string) []byte {
	t.Helper()
	packed := &bytes.Buffer{}
	zipped := gzip.NewWriter(packed)
	entries := tar.NewWriter(zipped)
	for name, content := range files {
		header := &tar.Header{Name: name, Mode: 0o644, Size: int64(len(content)), Typeflag: tar.TypeReg}
		if err := errors.Join(entries.WriteHeader(header), only(entries.Write([]byte(content)))); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(entries.Close(), zipped.Close()); err != nil {
		t.Fatal(err)
	}
	return packed.Bytes()
}

func only(_ int, err error) error { return err }

func TestEveryProblemIsListedWithItsPlace(t *testing.T) {
	refused := refusal(t, Agent, map[string]string{
		"a.rego": "package a\nx := unknown(1)\ny := also_unknown(2)\n",
		"b.rego": "package b\nz if { unused := 1; true }\n",
	})
	var places []string
	for _, problem := range refused.Problems {
		places = append(places, fmt.Sprintf("%s:%d", filepath.Base(problem.Location.File), problem.Location.Row))
	}
	slices.Sort(places)
	if fmt.Sprint(places) != "[a.rego:2 a.rego:3 b.rego:2]" {
		t.Fatalf("%v %+v", places, refused.Problems)
	}
}

func TestSyntaxErrorsOfAllFilesAreListed(t *testing.T) {
	for name, extra := range map[string]map[string]string{
		"plain": {}, "bundle": {".manifest": `{"revision": "r"}`},
	} {
		t.Run(name, func(t *testing.T) {
			extra["a.rego"], extra["b.rego"] = "package a\nx := \n", "package b\n}\n"
			if problems := refusal(t, Agent, extra).Problems; len(problems) < 2 || problems[0].Location == nil {
				t.Fatalf("%+v", problems)
			}
		})
	}
}

func TestADirectoryWithAManifestIsABundle(t *testing.T) {
	policy := open(t, Agent, map[string]string{
		".manifest":        `{"revision": "r7", "roots": ["authz", "limits"], "metadata": {"authz": {"sequence": 7}}}`,
		"policy.rego":      "package authz\nvalue := data.limits.max\n",
		"policy_test.rego": "package authz_test\nthis is not Rego\n",
		"limits/data.yaml": "max: 10\n",
		"golden/deny.json": `[1, 2]`,
	})
	if policy.Revision != "r7" || policy.Metadata["authz"] == nil {
		t.Fatalf("%+v", policy)
	}
	if answer, err := ask(t, policy, "authz/value", `{}`); answer != "10" {
		t.Fatal(answer, err)
	}
}

func TestFilesOutsideTheRootsOfABundleAreRefused(t *testing.T) {
	refused := refusal(t, Agent, map[string]string{
		".manifest": `{"roots": ["other"]}`, "policy.rego": "package authz\nvalue := 1\n",
	})
	if refused.Code != "invalid_policy" {
		t.Fatal(refused)
	}
}

func TestADirectoryWithoutAManifestLoadsAsOPARunDoes(t *testing.T) {
	policy := open(t, Agent, map[string]string{
		"policy.rego":        "package authz\nvalue := [data.limits.max, data.names.list[0], data.policies]\n",
		"limits/any.json":    `{"max": 3}`,
		"names/any.yaml":     "list: [a]\n",
		"policies/a.yaml":    "version: 1\nrules: []\n",
		"policies/b.yaml":    "version: 2\nrules: []\n",
		"policies/data.yaml": "kept: true\n",
		".hidden/other.rego": "not Rego",
		"README.md":          "not data",
	})
	if answer, err := ask(t, policy, "authz/value", `{}`); answer != `[3,"a",{"kept":true}]` {
		t.Fatal(answer, err)
	}
}

func TestALibraryAndAPolicyLoadTogether(t *testing.T) {
	library := tree(t, map[string]string{"lib.rego": "package lib\ndouble(x) := x * 2\n"})
	policy := tree(t, map[string]string{".manifest": `{}`, "p.rego": "package authz\nvalue := data.lib.double(data.n)\n", "data.json": `{"n": 4}`})
	opened, err := NewCache().Open(Options{Paths: []string{library, policy}, Contract: Agent})
	if err != nil {
		t.Fatal(err)
	}
	if answer, err := ask(t, opened, "authz/value", `{}`); answer != "8" {
		t.Fatal(answer, err)
	}
}

func TestTwoSourcesOfOneDataPathAreRefused(t *testing.T) {
	paths := []string{
		tree(t, map[string]string{".manifest": `{}`, "data.json": `{"limits": {"max": 1}}`}),
		tree(t, map[string]string{".manifest": `{}`, "data.json": `{"limits": {"max": 2}}`}),
	}
	if _, err := NewCache().Open(Options{Paths: paths, Contract: Agent}); code(err) != "load" {
		t.Fatal(err)
	}
}

func TestAnArchiveHasTheDigestOfItsFiles(t *testing.T) {
	files := map[string]string{".manifest": `{"revision": "1"}`, "p.rego": "package authz\nvalue := 1\n", "data.json": "{}"}
	packed, err := NewCache().Open(Options{Archive: archive(t, files), Contract: Agent})
	if err != nil {
		t.Fatal(err)
	}
	if unpacked := open(t, Agent, files); packed.Digest != unpacked.Digest {
		t.Fatal(packed.Digest, unpacked.Digest)
	}
	files["data.json"] = `{"a": 1}`
	if changed := open(t, Agent, files); packed.Digest == changed.Digest {
		t.Fatal("the digest does not see the data")
	}
}

func TestArchivesThatAreNotOnesAreRefused(t *testing.T) {
	link := &bytes.Buffer{}
	zipped := gzip.NewWriter(link)
	entries := tar.NewWriter(zipped)
	_ = entries.WriteHeader(&tar.Header{Name: "p.rego", Linkname: "/etc/passwd", Typeflag: tar.TypeSymlink})
	_ = errors.Join(entries.Close(), zipped.Close())
	for name, content := range map[string][]byte{
		"garbage":   []byte("garbage"),
		"empty":     {},
		"cut":       archive(t, map[string]string{"p.rego": strings.Repeat("# long\n", 10000)})[:60],
		"a link":    link.Bytes(),
		"two roots": archive(t, map[string]string{"a": "", "./a/../../../etc/p.rego": "not Rego"}),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := NewCache().Open(Options{Archive: content, Contract: Agent}); code(err) != "invalid_policy" {
				t.Fatal(err)
			}
		})
	}
}

func TestAnArchiveThatUnpacksToTooMuchIsRefusedBeforeItIsParsed(t *testing.T) {
	files := map[string]string{}
	for i := range 3 {
		files[fmt.Sprintf("%d.rego", i)] = strings.Repeat("#", defaultBytes-1)
	}
	if _, err := NewCache().Open(Options{Archive: archive(t, files), Contract: Agent}); code(err) != "size" {
		t.Fatal(err)
	}
}
