package barrier

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// segment is one append-only file. After the first error it is only ever truncated and closed.
type segment interface {
	Name() string
	Size() int64
	Write(records []byte) error
	Sync() error
	// Abandon cuts the file back to what was durable and closes it. Nil means that nothing later is in it.
	Abandon(durable int64) error
	Close() error
}

type fileSegment struct {
	file *os.File
	size int64
}

// newFileSegment makes a file of its own: an older one may end in a torn record.
func newFileSegment(options Options) (segment, error) {
	stamp := time.Now().UTC().Format("20060102T150405.000000Z")
	for n := 1; ; n++ {
		path := filepath.Join(options.Directory, fmt.Sprintf("%s%s-%d.jsonl", options.Prefix, stamp, n))
		file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o640)
		if os.IsExist(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if err := syncDirectory(options.Directory); err != nil {
			return nil, errors.Join(err, file.Close())
		}
		return &fileSegment{file: file}, nil
	}
}

func (s *fileSegment) Name() string { return s.file.Name() }

func (s *fileSegment) Size() int64 { return s.size }

func (s *fileSegment) Write(records []byte) error {
	_, err := s.file.Write(records)
	if err == nil {
		s.size += int64(len(records))
	}
	return err
}

func (s *fileSegment) Sync() error { return syncContent(s.file) }

func (s *fileSegment) Abandon(durable int64) error {
	err := s.file.Truncate(durable)
	_ = s.file.Close()
	return err
}

func (s *fileSegment) Close() error { return s.file.Close() }

// syncDirectory makes a new file's name durable; without it a crash can lose the whole segment.
func syncDirectory(directory string) error {
	opened, err := os.Open(directory)
	if err != nil {
		return err
	}
	defer opened.Close()
	return opened.Sync()
}
