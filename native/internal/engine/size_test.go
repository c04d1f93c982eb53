package engine

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
)

const decides = "package authz\nvalue := 1\n"

// TestF14WhatIsTooLargeIsRefusedBeforeItIsParsed: none of it is Rego or JSON, so a parser would have said so.
func TestF14WhatIsTooLargeIsRefusedBeforeItIsParsed(t *testing.T) {
	many := map[string]string{}
	for i := range maxFiles + 1 {
		many[fmt.Sprintf("%d.json", i)] = "not JSON"
	}
	for name, files := range map[string]map[string]string{
		"one file":    {"data.json": strings.Repeat("x", defaultBytes+1)},
		"all files":   sized(".json", defaultBytes+1),
		"all modules": sized(".rego", maxRegoBytes+1),
		"many files":  many,
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := NewCache().Open(Options{Paths: []string{tree(t, files)}, Contract: Agent}); code(err) != "size" {
				t.Fatal(err)
			}
			if _, err := NewCache().Open(Options{Archive: archive(t, files), Contract: Agent}); code(err) != "size" {
				t.Fatal(err)
			}
			found, err := Check(CheckOptions{Paths: []string{tree(t, files)}, Contract: Agent})
			if err != nil || len(found) != 1 || found[0].Code != "size" {
				t.Fatal(found, err)
			}
		})
	}
}

// sized fills files of at most a quarter of the largest one.
func sized(extension string, bytes int) map[string]string {
	files := map[string]string{}
	for bytes > 0 {
		part := min(bytes, defaultBytes/4)
		files[fmt.Sprintf("%d%s", len(files), extension)] = strings.Repeat("x", part)
		bytes -= part
	}
	return files
}

func TestF14WhatIsJustSmallEnoughIsServed(t *testing.T) {
	data := `{"pad": "` + strings.Repeat("x", defaultBytes-len(decides)-11) + `"}`
	policy := open(t, Agent, map[string]string{"policy.rego": decides, "data.json": data})
	if answer, err := ask(t, policy, "authz/value", `{}`); len(data)+len(decides) != defaultBytes || answer != "1" {
		t.Fatal(len(data), answer, err)
	}
}

func TestF14AnOperatorSetsTheBound(t *testing.T) {
	files := map[string]string{"policy.rego": decides, "data.json": `{"pad": "` + strings.Repeat("x", 4096) + `"}`}
	for most, fits := range map[int64]bool{4096: false, 8192: true} {
		_, archived := NewCache().Open(Options{Archive: archive(t, files), Contract: Agent, MaxBytes: most})
		_, read := NewCache().Open(Options{Paths: []string{tree(t, files)}, Contract: Agent, MaxBytes: most})
		for _, err := range []error{archived, read} {
			if fits != (err == nil) || !fits && code(err) != "size" {
				t.Fatal(most, err)
			}
		}
	}
}

// TestF14AnArchiveIsJudgedByWhatItUnpacksTo: each is some kilobytes of gzip, and none has a file that is too large.
func TestF14AnArchiveIsJudgedByWhatItUnpacksTo(t *testing.T) {
	for name, write := range map[string]func(*tar.Writer) error{
		"folders without end": func(entries *tar.Writer) error {
			for i := range (defaultBytes + tarOverhead) >> 9 {
				header := tar.Header{Name: fmt.Sprintf("%d/", i), Typeflag: tar.TypeDir}
				if err := entries.WriteHeader(&header); err != nil {
					return err
				}
			}
			return nil
		},
		"a file of a gigabyte": func(entries *tar.Writer) error {
			header := tar.Header{Name: "data.json", Typeflag: tar.TypeReg, Size: 1 << 30}
			return errors.Join(entries.WriteHeader(&header), only64(io.CopyN(entries, zeros{}, 1<<30)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			packed := &bytes.Buffer{}
			zipped, _ := gzip.NewWriterLevel(packed, gzip.BestSpeed)
			entries := tar.NewWriter(zipped)
			if err := errors.Join(write(entries), entries.Close(), zipped.Close()); err != nil {
				t.Fatal(err)
			}
			_, err := NewCache().Open(Options{Archive: packed.Bytes(), Contract: Agent})
			if code(err) != "size" || packed.Len() > defaultBytes {
				t.Fatal(packed.Len(), err)
			}
		})
	}
}

func TestTwoValuesForOneDataPathAreAFindingOfTheCheck(t *testing.T) {
	paths := []string{
		tree(t, map[string]string{".manifest": `{}`, "data.json": `{"limits": {"max": 1}}`}),
		tree(t, map[string]string{".manifest": `{}`, "data.json": `{"limits": {"max": 2}}`}),
	}
	found, err := Check(CheckOptions{Paths: paths, Contract: Agent})
	if err != nil || !slices.ContainsFunc(found, func(problem Problem) bool { return problem.Code == "load_error" }) {
		t.Fatal(found, err)
	}
}

type zeros struct{}

func (zeros) Read(into []byte) (int, error) {
	clear(into)
	return len(into), nil
}

func only64(_ int64, err error) error { return err }
