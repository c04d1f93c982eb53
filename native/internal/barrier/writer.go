package barrier

import (
	"container/heap"
	"log/slog"
	"time"

	"authz/native/internal/fault"
)

// write is the one goroutine that touches the disk: batch after batch, each written and synced as one.
func (l *Log) write() {
	defer close(l.stopped)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		batch, wait, closing := l.ready(time.Now())
		if len(batch) > 0 || l.owes() && time.Now().After(l.retryAt) {
			l.commit(batch)
			continue
		}
		if closing {
			l.finish()
			return
		}
		if l.owes() {
			wait = min(wait, time.Until(l.retryAt))
		}
		timer.Reset(wait)
		select {
		case <-l.wake:
		case <-timer.C:
		}
	}
}

// owes tells whether records wait in memory for a disk that works.
func (l *Log) owes() bool { return len(l.ring.records) > 0 }

// gather is how long a record waits, at most, for others to share its sync.
const gather = time.Millisecond

// moment is what is left of the time that the waiting records wait for others. They wait only for more than they are:
// where few calls are under way, each would lose more than all gain.
func (l *Log) moment(now time.Time) time.Duration {
	coming := l.coming.Load()
	if coming == nil || l.closing || len(l.waiting) == 0 || (*coming)() <= int64(len(l.waiting)) {
		return 0
	}
	return gather - now.Sub(l.waiting[0].arrived)
}

// ready takes the run of entries that are next in order. Behind a missing number it waits, but not for ever: the
// number's owner may have died with it, and then the hole stays visible in the numbers on disk.
func (l *Log) ready(now time.Time) (batch []*Entry, wait time.Duration, closing bool) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if len(l.waiting) > 0 && l.waiting[0].Sequence > l.next {
		overdue := now.Sub(l.waiting[0].arrived) - l.options.Gap
		if overdue < 0 && !l.closing {
			return nil, -overdue, false
		}
		l.stats.Gaps++
		l.next = l.waiting[0].Sequence
	}
	if wait := l.moment(now); wait > 0 {
		return nil, wait, false
	}
	batch = l.batch[:0]
	for len(l.waiting) > 0 && l.waiting[0].Sequence <= l.next {
		entry := heap.Pop(&l.waiting).(*Entry)
		if entry.Sequence < l.next {
			// A number that came twice: the first one stands.
			entry.void = true
		} else {
			l.next++
		}
		batch = append(batch, entry)
	}
	l.batch = batch
	return batch, time.Hour, l.closing
}

// commit gives a batch its one write and one sync, then tells every entry.
func (l *Log) commit(batch []*Entry) {
	err := l.attempt(batch)
	l.settle(batch, err)
	for _, entry := range batch {
		entry.Done(fate(entry, err))
	}
	clear(batch)
}

// attempt answers nil only when every record of the batch is durable. A panic on the way is a failed attempt: whoever
// waits must hear of it.
func (l *Log) attempt(batch []*Entry) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			slog.Error("panic in the record log", "cause", cause)
			err = ErrUnavailable
		}
	}()
	l.buffer.Reset()
	for _, record := range l.ring.records {
		l.line(record)
	}
	for _, entry := range batch {
		if !entry.void && entry.Claim != nil && !entry.Claim() {
			entry.void = true
		}
		if !entry.void {
			l.line(entry.Record)
		}
	}
	fault.Point("log")
	return l.flush()
}

func fate(entry *Entry, err error) error {
	if entry.void {
		return ErrRecord
	}
	return err
}

func (l *Log) line(record []byte) {
	l.buffer.Write(record)
	l.buffer.WriteByte('\n')
}

// flush answers nil only when everything in the buffer is durable. A file that failed once is left for good: after a
// failed fsync the kernel may have dropped the pages and would call the next one a success.
func (l *Log) flush() error {
	if l.buffer.Len() == 0 {
		return nil
	}
	if err := l.ensure(); err != nil {
		return err
	}
	durable := l.current.Size()
	if err := l.current.Write(l.buffer.Bytes()); err != nil {
		return l.abandon(durable)
	}
	if l.options.Sync == "none" {
		return nil
	}
	if err := l.current.Sync(); err != nil {
		return l.abandon(durable)
	}
	return nil
}

// ensure has a segment to write to: a fresh one after a failure (not more often than Retry) or past the size limit.
func (l *Log) ensure() error {
	if l.current != nil && l.current.Size() < l.options.SegmentBytes {
		return nil
	}
	if time.Now().Before(l.retryAt) {
		return ErrUnavailable
	}
	fresh, err := l.open()
	if err != nil {
		l.retryAt = time.Now().Add(l.options.Retry)
		return ErrUnavailable
	}
	if l.current != nil {
		_ = l.current.Close()
	}
	l.current = fresh
	return nil
}

func (l *Log) abandon(durable int64) error {
	_ = l.current.Abandon(durable)
	l.current = nil
	l.retryAt = time.Now().Add(l.options.Retry)
	return ErrUnavailable
}

// settle counts a batch's outcome and moves what is still owed to the disk into or out of the ring.
func (l *Log) settle(batch []*Entry, err error) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	written := len(l.ring.records)
	for _, entry := range batch {
		if entry.void {
			continue
		}
		written++
		if err == nil {
			l.stats.Durable = entry.Sequence
		} else if entry.Keep {
			l.stats.Lost += uint64(l.ring.keep(entry.Record))
		}
	}
	l.stats.Failed = err != nil
	if err != nil {
		l.stats.Failures++
	} else if written > 0 {
		l.stats.Records += uint64(written)
		l.stats.Bytes += uint64(l.buffer.Len())
		l.stats.Batches++
		l.stats.Segment = l.current.Name()
		l.ring.clear()
	}
	l.stats.Kept = len(l.ring.records)
}

// finish tries once more to write what is kept, then lets go of the file.
func (l *Log) finish() {
	l.retryAt = time.Time{}
	if l.owes() {
		l.commit(nil)
	}
	l.mutex.Lock()
	l.stats.Lost += uint64(len(l.ring.records))
	l.mutex.Unlock()
	if l.current != nil {
		_ = l.current.Close()
	}
}
