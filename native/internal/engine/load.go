package engine

import (
	"cmp"
	"errors"
	"fmt"
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
	"github.com/open-policy-agent/opa/v1/util"
)

// source is a parsed policy, not compiled yet.
type source struct {
	modules   map[string]*ast.Module
	data      *packer
	document  uint32
	manifests []bundle.Manifest

	capabilities *ast.Capabilities
	skip         filter.LoaderFilter
}

// load parses a snapshot the way OPA does: a directory with a manifest and an archive as a bundle, anything else as
// `opa run PATH` would.
func (s *snapshot) load(capabilities *ast.Capabilities, skip filter.LoaderFilter) (*source, error) {
	loaded := &source{modules: map[string]*ast.Module{}, data: newPacker(), document: nodeEmpty, capabilities: capabilities}
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
	read, err := bundle.NewCustomReader(bundle.NewFSLoaderWithRoot(files, root).WithFilter(l.skipData)).
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
	if read.Type() == bundle.DeltaBundleType {
		return errors.New("the bundle is a delta of OPA's, and no policy")
	}
	for _, module := range read.Modules {
		l.modules[module.Path] = module.Parsed
	}
	l.manifests = append(l.manifests, read.Manifest)
	return l.addData(s, root, *read.Manifest.Roots)
}

// skipData leaves data to addData: OPA's reader would make values of all of it first.
func (l *source) skipData(file string, status fs.FileInfo, depth int) bool {
	return !status.IsDir() && isData(file) || l.skip(file, status, depth)
}

func isData(file string) bool { return path.Base(file) == "data.json" || bundle.IsYAMLDataFile(file) }

// addData does with a bundle's data what OPA's reader does: each file is the value at its folder's path, no two give one
// value, and none gives what the manifest's roots do not permit.
func (l *source) addData(s *snapshot, root string, roots []string) error {
	own := nodeEmpty
	for _, file := range slices.Sorted(maps.Keys(s.files)) {
		inside, isInside := strings.CutPrefix(file, root+"/")
		if !isInside || !isData(file) || l.skips(s.files, file) {
			continue
		}
		value, err := l.read(inside, s.files[file].Data)
		if err == nil {
			own, err = l.data.merge(own, value)
		}
		if err != nil {
			return fmt.Errorf("bundle load failed on %s: %w", inside, err)
		}
	}
	if stray, is := l.data.strays(roots, "", own); is {
		return fmt.Errorf("manifest roots %v do not permit data at path '/%s'", roots, stray)
	}
	return l.addDocument(own)
}

// read packs a data file, under the path of its folder.
func (l *source) read(file string, content []byte) (value uint32, err error) {
	if path.Ext(file) == ".json" {
		value, err = l.data.parse(content)
	} else {
		var document any
		if err = util.Unmarshal(content, &document); err == nil {
			value, err = l.data.add(document)
		}
	}
	if err != nil {
		return 0, err
	}
	var folders []string
	if folder := strings.TrimLeft(path.Dir(file), "/."); folder != "" {
		folders = strings.Split(folder, "/")
	}
	return l.data.at(folders, value)
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
	document, err := l.data.add(read.Documents)
	if err != nil {
		return err
	}
	return l.addDocument(document)
}

func (l *source) addDocument(document uint32) error {
	merged, err := l.data.merge(l.document, document)
	l.document = merged
	return err
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
