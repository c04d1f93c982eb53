package engine

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing/fstest"

	"github.com/open-policy-agent/opa/v1/bundle"
)

// Bounds on what a policy may weigh, checked before anything is parsed. An archive is judged by what it unpacks to.
// Data takes up to twice its bytes of memory, forty times where rules read it whole, and modules two hundred times: the
// sums, not the files, are what keeps a candidate from killing the process that serves with the one before (F14). An
// operator may set the bound on all files, which is also that on one; defaultBytes is what a sidecar of two gigabytes
// survives twice.
const (
	maxFiles     = 4096
	defaultBytes = 32 << 20
	maxRegoBytes = 4 << 20
	// tarOverhead is what an archive's own headers may take beside its files.
	tarOverhead = maxFiles << 11
)

// archiveRoot is where the files of an archive stand; no absolute path without its slash begins like it.
const archiveRoot = "(archive)"

var policyExtensions = []string{".rego", ".json", ".yaml", ".yml"}

// snapshot is the one reading of a policy's files. Everything later works on these bytes, so what was digested,
// checked and loaded cannot differ, whatever happens on disk meanwhile.
type snapshot struct {
	files fstest.MapFS
	roots []string
	most  int64
	total int64
	rego  int64
}

func newSnapshot(most int64) *snapshot {
	return &snapshot{files: fstest.MapFS{}, most: cmp.Or(most, defaultBytes)}
}

func readPaths(paths []string, most int64) (*snapshot, error) {
	s := newSnapshot(most)
	for _, root := range paths {
		absolute, err := filepath.Abs(root)
		if err != nil {
			return nil, err
		}
		// OPA's loader takes what stands before a colon for a path in data.
		if strings.Contains(absolute, ":") {
			return nil, fmt.Errorf("%s: a colon in a policy's path is not supported", absolute)
		}
		if err := s.readTree(absolute); err != nil {
			return nil, err
		}
		s.roots = append(s.roots, name(absolute))
	}
	return s, nil
}

func (s *snapshot) readTree(root string) error {
	return filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if file != root && hidden(entry.Name()) {
			if entry.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		// Symbolic links to files are followed: that is how Kubernetes mounts a ConfigMap.
		status, err := os.Stat(file)
		if err != nil {
			return err
		}
		if !status.Mode().IsRegular() || !wanted(file) && file != root {
			return nil
		}
		content, err := readFile(file, s.most)
		if err != nil {
			return err
		}
		return s.add(name(file), content)
	})
}

func readArchive(archive []byte, most int64) (*snapshot, error) {
	unzipped, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		return nil, fmt.Errorf("the archive is not gzip: %w", err)
	}
	s := newSnapshot(most)
	s.roots = []string{archiveRoot}
	// The root must exist even when the archive is empty, so that the bundle reader can say so itself.
	s.files[archiveRoot] = &fstest.MapFile{Mode: fs.ModeDir | 0o755}
	limited := &io.LimitedReader{R: unzipped, N: s.most + tarOverhead}
	if err := s.addEntries(tar.NewReader(limited)); limited.N <= 0 {
		return nil, tooLarge("the archive unpacks to over %d bytes", s.most)
	} else if err != nil {
		return nil, err
	}
	return s, nil
}

func (s *snapshot) addEntries(entries *tar.Reader) error {
	for {
		header, err := entries.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("the archive cannot be read: %w", err)
		}
		if err := s.addEntry(header, entries); err != nil {
			return err
		}
	}
}

func (s *snapshot) addEntry(header *tar.Header, content io.Reader) error {
	if header.Typeflag == tar.TypeDir {
		return nil
	}
	if header.Typeflag != tar.TypeReg {
		return fmt.Errorf("the archive holds something that is not a file: %s", header.Name)
	}
	if header.Size > s.most {
		return tooLarge("%s is over %d bytes", header.Name, s.most)
	}
	body := make([]byte, header.Size)
	if _, err := io.ReadFull(content, body); err != nil {
		return fmt.Errorf("the archive cannot be read: %w", err)
	}
	// Cleaned against a root of its own, `../` cannot climb out of it.
	return s.add(archiveRoot+path.Clean("/"+header.Name), body)
}

func (s *snapshot) add(file string, content []byte) error {
	if existing, seen := s.files[file]; seen && !bytes.Equal(existing.Data, content) {
		return fmt.Errorf("%s is given twice with different contents", file)
	}
	s.total += int64(len(content))
	if path.Ext(file) == bundle.RegoExt {
		s.rego += int64(len(content))
	}
	switch {
	case len(s.files) >= maxFiles:
		return tooLarge("the policy is over %d files", maxFiles)
	case s.total > s.most:
		return tooLarge("the policy is over %d bytes", s.most)
	case s.rego > maxRegoBytes:
		return tooLarge("the policy's modules are over %d bytes", maxRegoBytes)
	}
	s.files[file] = &fstest.MapFile{Data: content, Mode: 0o444}
	return nil
}

// digest is the SHA-256 over the sorted files: each name and content with its length before it, so that no two
// different sets of files run together into the same bytes.
func (s *snapshot) digest() string {
	sum := sha256.New()
	write := func(content []byte) {
		_ = binary.Write(sum, binary.BigEndian, uint64(len(content)))
		sum.Write(content)
	}
	for _, file := range slices.Sorted(maps.Keys(s.files)) {
		if !s.files[file].Mode.IsDir() {
			write([]byte(s.relative(file)))
			write(s.files[file].Data)
		}
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// relative strips the root a file was found under: the same policy has the same digest wherever it lies.
func (s *snapshot) relative(file string) string {
	for index, root := range s.roots {
		if rest, inside := strings.CutPrefix(file, root+"/"); inside {
			return fmt.Sprintf("%d/%s", index, rest)
		}
	}
	return path.Base(file)
}

func (s *snapshot) isBundle(root string) bool {
	_, found := s.files[root+"/.manifest"]
	return found || root == archiveRoot
}

func readFile(file string, most int64) ([]byte, error) {
	opened, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer opened.Close()
	content, err := io.ReadAll(io.LimitReader(opened, most+1))
	if err == nil && int64(len(content)) > most {
		err = tooLarge("%s is over %d bytes", file, most)
	}
	return content, err
}

func name(absolute string) string { return strings.TrimPrefix(filepath.ToSlash(absolute), "/") }

// shown is a file's name as people know it.
func shown(file string) string {
	if inside, archived := strings.CutPrefix(file, archiveRoot+"/"); archived {
		return inside
	}
	return "/" + strings.TrimPrefix(file, "/")
}

func hidden(base string) bool { return strings.HasPrefix(base, ".") && base != ".manifest" }

func wanted(file string) bool {
	return slices.Contains(policyExtensions, filepath.Ext(file)) || filepath.Base(file) == ".manifest"
}
