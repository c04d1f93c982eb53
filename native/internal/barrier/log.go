// Package barrier writes records before the answers they belong to go out.
//
// It decides which records are durable and in what order they lie on disk: the order of their sequence numbers, which
// its caller gives out. It must never call a record durable that the disk has not acknowledged, nor write to a file
// again after a failed write or sync: what such a file holds is unknown. It trusts its caller to give every sequence
// number once and to void those it will not use.
package barrier

import (
	"bytes"
	"container/heap"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// ErrUnavailable says that a record is not, and will not be, in the log.
var ErrUnavailable = errors.New("the record was not written")

// ErrClosed says that the log takes no more records.
var ErrClosed = errors.New("the log is closed")

// ErrRecord says that a record or its number cannot be taken: not one line, or a number given before.
var ErrRecord = errors.New("the record is not one line with a new number")

// Options say where segments lie and how hard to try.
type Options struct {
	Directory    string        `json:"directory"`
	Prefix       string        `json:"prefix"`
	Sync         string        `json:"sync"`
	SegmentBytes int64         `json:"segment_bytes"`
	First        uint64        `json:"first_sequence"`
	Gap          time.Duration `json:"gap_ns"`
	Retry        time.Duration `json:"retry_ns"`
	RingBytes    int           `json:"ring_bytes"`
}

// Entry is one record on its way to the disk.
type Entry struct {
	Record   []byte
	Sequence uint64
	// Keep says that the record still holds when it could not be written in time: it waits in memory for the next
	// good segment. Without it the record is dropped then, because its answer was changed.
	Keep bool
	// Claim is asked once, just before the record is written. False withdraws it: its answer went out without it.
	Claim func() bool
	// Done is told once: nil after the record is durable.
	Done func(error)

	arrived time.Time
	void    bool
}

// Stats is a snapshot of the log's counters.
type Stats struct {
	Records  uint64 `json:"records"`
	Bytes    uint64 `json:"bytes"`
	Batches  uint64 `json:"batches"`
	Failures uint64 `json:"failures"`
	Lost     uint64 `json:"lost"`
	Gaps     uint64 `json:"gaps"`
	Waiting  int    `json:"waiting"`
	Kept     int    `json:"kept"`
	Durable  uint64 `json:"durable_sequence"`
	Failed   bool   `json:"failed"`
	Segment  string `json:"segment"`
}

// Log is a directory of segments with one writer.
type Log struct {
	options Options
	open    func() (segment, error)
	coming  atomic.Pointer[func() int64]

	mutex   sync.Mutex
	waiting queue
	next    uint64
	closing bool
	stats   Stats
	wake    chan struct{}
	stopped chan struct{}

	// The writer's own.
	current segment
	ring    ring
	retryAt time.Time
	batch   []*Entry
	buffer  bytes.Buffer
}

// Open makes the first segment, so that a directory that cannot be written to is found at the start.
func Open(options Options) (*Log, error) {
	return openWith(options, func() (segment, error) { return newFileSegment(options) })
}

func openWith(options Options, open func() (segment, error)) (*Log, error) {
	current, err := open()
	if err != nil {
		return nil, err
	}
	log := &Log{
		options: options,
		open:    open,
		next:    options.First,
		wake:    make(chan struct{}, 1),
		stopped: make(chan struct{}),
		current: current,
		ring:    ring{limit: options.RingBytes},
	}
	log.stats.Segment = current.Name()
	go log.write()
	return log, nil
}

// Commit takes records and returns at once; Done is called when the fate of each is known, in the order of the numbers.
// What is given at once is written at once.
func (l *Log) Commit(entries ...*Entry) {
	var refused []func()
	l.mutex.Lock()
	for _, entry := range entries {
		if err := l.take(entry); err != nil {
			refused = append(refused, func() { entry.Done(err) })
		}
	}
	l.mutex.Unlock()
	l.signal()
	for _, tell := range refused {
		tell()
	}
}

// Gather tells the log how many records may come soon: as long as they are more than those that wait, it waits for
// them, but for no longer than a moment. A sync costs the same for one record as for many.
func (l *Log) Gather(coming func() int64) { l.coming.Store(&coming) }

// Append takes a record and waits for its fate.
func (l *Log) Append(record []byte, sequence uint64) error {
	fate := make(chan error, 1)
	l.Commit(&Entry{Record: record, Sequence: sequence, Keep: true, Done: func(err error) { fate <- err }})
	return <-fate
}

// Void says that a number was given out and will not be used, so that later records need not wait for it.
func (l *Log) Void(sequence uint64) {
	l.Commit(&Entry{Sequence: sequence, void: true, Done: func(error) {}})
}

// Close writes what waits, then ends the writer.
func (l *Log) Close() {
	l.mutex.Lock()
	l.closing = true
	l.mutex.Unlock()
	l.signal()
	<-l.stopped
}

// Stats copies the counters.
func (l *Log) Stats() Stats {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	stats := l.stats
	stats.Waiting = len(l.waiting)
	return stats
}

func (l *Log) take(entry *Entry) error {
	// A line feed inside a record would make two lines of it: a forged record (attack J12).
	forged := !entry.void && (len(entry.Record) == 0 || bytes.IndexByte(entry.Record, '\n') >= 0)
	if forged {
		entry = &Entry{Sequence: entry.Sequence, void: true, Done: func(error) {}}
	}
	if l.closing {
		return ErrClosed
	}
	if entry.Sequence < l.next {
		return ErrRecord
	}
	entry.arrived = time.Now()
	heap.Push(&l.waiting, entry)
	if forged {
		return ErrRecord
	}
	return nil
}

func (l *Log) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}
