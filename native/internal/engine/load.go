package engine

import (
	"cmp"
	"errors"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing/fstest"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/loader"
	"github.com/open-policy-agent/opa/v1/loader/filter"
)

// source is a parsed policy, not compiled yet.
type source struct {
	modules   map[string]*ast.Module
	documents map[string]any
	manifests []bundle.Manifest

	capabilities *ast.Capabilities
	skip         filter.LoaderFilter
}

// load parses a snapshot the way OPA does: a directory with a manifest and an archive as a bundle, anything else as
// `opa run PATH` would.
func (s *snapshot) load(capabilities *ast.Capabilities, skip filter.LoaderFilter) (*source, error) {
	loaded := &source{modules: map[string]*ast.Module{}, documents: map[string]any{}, capabilities: capabilities}
	loaded.skip = func(file string, status fs.FileInfo, depth int) bool {
		return isAuthored(file) || skip != nil && skip(file, status, depth)
	}
	var plain []string
	for _, root := range s.roots {
		if !s.isBundle(root) {
			plain = append(plain, root)
			continue
		}
		if err := loaded.addBundle(s, root); err != nil {
			return nil, err
		}
	}
	if len(plain) > 0 {
		return loaded, loaded.addPlain(s.files, plain)
	}
	return loaded, nil
}

func (l *source) addBundle(s *snapshot, root string) error {
	files := s.files
	read, err := bundle.NewCustomReader(bundle.NewFSLoaderWithRoot(files, root).WithFilter(l.skip)).
		WithCapabilities(l.capabilities).
		WithProcessAnnotations(true).
		// Signatures are judged before bytes reach the engine, with keys it does not have.
		WithSkipBundleVerification(true).
		WithSizeLimitBytes(s.most).
		WithBaseDir(root).
		Read()
	if err != nil {
		return cmp.Or(l.syntax(files, root), err)
	}
	for _, module := range read.Modules {
		l.modules[module.Path] = module.Parsed
	}
	l.manifests = append(l.manifests, read.Manifest)
	return l.addDocuments(read.Data)
}

// syntax finds what is wrong in all modules under a root; OPA's bundle reader stops at the first.
func (l *source) syntax(files fstest.MapFS, root string) error {
	var found ast.Errors
	for _, file := range slices.Sorted(maps.Keys(files)) {
		if !strings.HasPrefix(file, root+"/") || filepath.Ext(file) != bundle.RegoExt || l.skips(files, file) {
			continue
		}
		options := ast.ParserOptions{Capabilities: l.capabilities, ProcessAnnotation: true}
		_, err := ast.ParseModuleWithOpts(file, string(files[file].Data), options)
		several := ast.Errors{}
		if errors.As(err, &several) {
			found = append(found, several...)
		}
	}
	if len(found) == 0 {
		return nil
	}
	return found
}

func (l *source) skips(files fs.FS, file string) bool {
	status, err := fs.Stat(files, file)
	return err == nil && l.skip(file, status, 0)
}

func (l *source) addPlain(files fs.FS, roots []string) error {
	read, err := loader.NewFileLoader().
		WithFS(files).
		WithCapabilities(l.capabilities).
		WithProcessAnnotation(true).
		Filtered(roots, l.skip)
	if err != nil {
		return err
	}
	for file, module := range read.ParsedModules() {
		l.modules[file] = module
	}
	return l.addDocuments(read.Documents)
}

func (l *source) addDocuments(documents map[string]any) error {
	merged, ok := merge(l.documents, documents)
	if !ok {
		message := "two sources give different values for the same data path"
		return &Error{Code: "load", Message: message, Problems: []Problem{{Code: "load_error", Message: message}}}
	}
	l.documents = merged
	return nil
}

// merge joins two trees; it refuses where both hold a value, because which one counts would be an accident.
func merge(into, from map[string]any) (map[string]any, bool) {
	for key, value := range from {
		existing, taken := into[key]
		if !taken {
			into[key] = value
			continue
		}
		left, leftIsTree := existing.(map[string]any)
		right, rightIsTree := value.(map[string]any)
		if !leftIsTree || !rightIsTree {
			return nil, false
		}
		if _, ok := merge(left, right); !ok {
			return nil, false
		}
	}
	return into, true
}

// isAuthored is skipped everywhere: decision tables in tests/ and the sources of a compiled policy in policies/ are YAML,
// but no data of the policy's.
func isAuthored(file string) bool {
	kind := path.Ext(file)
	switch path.Base(path.Dir(file)) {
	case "tests":
		return kind == ".yaml" || kind == ".yml"
	case "policies":
		return slices.Contains(policyExtensions[1:], kind) && strings.TrimSuffix(path.Base(file), kind) != "data"
	}
	return false
}

// isTest is skipped where policies are opened: tests are no part of what decides.
func isTest(_ string, status fs.FileInfo, _ int) bool {
	return strings.HasSuffix(status.Name(), "_test.rego")
}
