package barrier

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"authz/native/internal/fault"
)

var errDisk = errors.New("no space left on device")

// disk is a directory of segments in memory whose next operations can be made to fail.
type disk struct {
	mutex               sync.Mutex
	segments            []*memory
	failWrite, failSync bool
	failOpen            bool
	hold                chan struct{}
	syncs               int
}

type memory struct {
	disk    *disk
	content []byte
	closed  bool
}

func (d *disk) open() (segment, error) {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	if d.failOpen {
		return nil, errDisk
	}
	d.segments = append(d.segments, &memory{disk: d})
	return d.segments[len(d.segments)-1], nil
}

func (d *disk) fail(write, sync, open bool) {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	d.failWrite, d.failSync, d.failOpen = write, sync, open
}

func (d *disk) lines() []string {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	var lines []string
	for _, each := range d.segments {
		lines = append(lines, strings.Fields(string(each.content))...)
	}
	return lines
}

func (m *memory) Name() string { return "memory" }
func (m *memory) Size() int64  { return int64(len(m.content)) }

func (m *memory) Write(records []byte) error {
	m.disk.mutex.Lock()
	defer m.disk.mutex.Unlock()
	if m.closed {
		return os.ErrClosed
	}
	if m.disk.failWrite {
		m.content = append(m.content, records[:len(records)/2]...)
		return errDisk
	}
	m.content = append(m.content, records...)
	return nil
}

func (m *memory) Sync() error {
	m.disk.mutex.Lock()
	hold, failed := m.disk.hold, m.disk.failSync
	m.disk.syncs++
	m.disk.mutex.Unlock()
	if hold != nil {
		<-hold
	}
	if failed {
		return errDisk
	}
	return nil
}

func (m *memory) Abandon(durable int64) error {
	m.disk.mutex.Lock()
	defer m.disk.mutex.Unlock()
	m.content, m.closed = m.content[:durable], true
	return nil
}

func (m *memory) Close() error {
	m.closed = true
	return nil
}

func openOn(t *testing.T, d *disk, change func(*Options)) *Log {
	t.Helper()
	options := Options{Sync: "group", SegmentBytes: 1 << 20, First: 1, Gap: time.Minute, RingBytes: 1 << 20}
	if change != nil {
		change(&options)
	}
	log, err := openWith(options, d.open)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(log.Close)
	return log
}

// commit hands a record over and gives the channel its fate comes through.
func commit(log *Log, sequence uint64, keep bool) <-chan error {
	fate := make(chan error, 1)
	record := fmt.Appendf(nil, "r%d", sequence)
	log.Commit(&Entry{Record: record, Sequence: sequence, Keep: keep, Done: func(err error) { fate <- err }})
	return fate
}

func want(t *testing.T, got, expected any) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(expected) {
		t.Fatalf("got %v, want %v", got, expected)
	}
}

func TestRecordsLieInTheOrderOfTheirNumbersWhateverTheOrderTheyCameIn(t *testing.T) {
	d := &disk{}
	log := openOn(t, d, nil)
	third, second := commit(log, 3, false), commit(log, 2, false)
	select {
	case <-second:
		t.Fatal("2 was called durable before 1 was there")
	default:
	}
	want(t, <-commit(log, 1, false), nil)
	want(t, <-second, nil)
	want(t, <-third, nil)
	want(t, d.lines(), []string{"r1", "r2", "r3"})
}

func TestRecordsThatWaitForTheDiskShareOneSync(t *testing.T) {
	d := &disk{hold: make(chan struct{})}
	log := openOn(t, d, nil)
	first := commit(log, 1, false)
	var rest []<-chan error
	for sequence := uint64(2); sequence <= 20; sequence++ {
		rest = append(rest, commit(log, sequence, false))
	}
	close(d.hold)
	want(t, <-first, nil)
	for _, fate := range rest {
		want(t, <-fate, nil)
	}
	if d.syncs > 3 {
		t.Fatalf("%d syncs for 20 records", d.syncs)
	}
}

func TestNothingIsDurableAfterAFailure(t *testing.T) {
	for name, fail := range map[string]func(*disk){
		"write": func(d *disk) { d.fail(true, false, true) },
		"sync":  func(d *disk) { d.fail(false, true, true) },
	} {
		t.Run(name, func(t *testing.T) {
			d := &disk{}
			log := openOn(t, d, nil)
			want(t, <-commit(log, 1, false), nil)
			fail(d)
			want(t, <-commit(log, 2, false), ErrUnavailable)
			want(t, <-commit(log, 3, false), ErrUnavailable)
			want(t, log.Stats().Failed, true)
			want(t, d.lines(), []string{"r1"})
		})
	}
}

func TestAfterAFailureAFreshSegmentIsUsedAndOnlyKeptRecordsReachIt(t *testing.T) {
	d := &disk{}
	log := openOn(t, d, nil)
	d.fail(false, true, true)
	want(t, <-commit(log, 1, false), ErrUnavailable)
	want(t, <-commit(log, 2, true), ErrUnavailable)
	d.fail(false, false, false)
	want(t, <-commit(log, 3, false), nil)
	want(t, d.lines(), []string{"r2", "r3"})
	want(t, string(d.segments[0].content), "")
	want(t, log.Stats().Failed, false)
}

func TestKeptRecordsReachTheDiskWithoutALaterCall(t *testing.T) {
	d := &disk{}
	log := openOn(t, d, func(o *Options) { o.Retry = time.Millisecond })
	d.fail(true, false, false)
	want(t, <-commit(log, 1, true), ErrUnavailable)
	d.fail(false, false, false)
	for len(d.lines()) == 0 {
		time.Sleep(time.Millisecond)
	}
	want(t, d.lines(), []string{"r1"})
}

func TestTheOldestKeptRecordsGiveWayAndAreCounted(t *testing.T) {
	d := &disk{}
	log := openOn(t, d, func(o *Options) { o.RingBytes, o.Retry = 4, time.Hour })
	d.fail(true, false, true)
	for sequence := uint64(1); sequence <= 3; sequence++ {
		want(t, <-commit(log, sequence, true), ErrUnavailable)
	}
	want(t, log.Stats().Lost, 1)
	d.fail(false, false, false)
	log.Close()
	want(t, d.lines(), []string{"r2", "r3"})
}

func TestAVoidedNumberHoldsNobodyUp(t *testing.T) {
	d := &disk{}
	log := openOn(t, d, nil)
	second := commit(log, 2, false)
	log.Void(1)
	want(t, <-second, nil)
	want(t, log.Stats().Gaps, 0)
}

func TestAMissingNumberHoldsOthersUpForAWhileAndIsCounted(t *testing.T) {
	log := openOn(t, &disk{}, func(o *Options) { o.Gap = time.Millisecond })
	want(t, <-commit(log, 2, false), nil)
	want(t, log.Stats().Gaps, 1)
	want(t, <-commit(log, 1, false), ErrRecord)
}

func TestANumberIsTakenOnce(t *testing.T) {
	d := &disk{}
	log := openOn(t, d, nil)
	twice := []<-chan error{commit(log, 2, false), commit(log, 2, false)}
	want(t, <-commit(log, 1, false), nil)
	fates := []error{<-twice[0], <-twice[1]}
	if errors.Is(fates[0], ErrRecord) == errors.Is(fates[1], ErrRecord) {
		t.Fatalf("fates %v", fates)
	}
	want(t, d.lines(), []string{"r1", "r2"})
}

func TestJ12ARecordThatIsNotOneLineIsRefused(t *testing.T) {
	d := &disk{}
	log := openOn(t, d, nil)
	want(t, log.Append([]byte("{}\n{\"forged\":1}"), 1), ErrRecord)
	want(t, log.Append(nil, 2), ErrRecord)
	want(t, log.Append([]byte("r3"), 3), nil)
	want(t, d.lines(), []string{"r3"})
}

func TestAWithdrawnRecordIsNotWritten(t *testing.T) {
	d := &disk{}
	log := openOn(t, d, nil)
	fate := make(chan error, 1)
	log.Commit(&Entry{
		Record: []byte("r1"), Sequence: 1,
		Claim: func() bool { return false },
		Done:  func(err error) { fate <- err },
	})
	want(t, <-fate, ErrRecord)
	want(t, d.lines(), []string{})
}

func TestAPanicInTheWriterIsAFailedWrite(t *testing.T) {
	log := openOn(t, &disk{}, nil)
	fault.Arm("log")
	want(t, <-commit(log, 1, false), ErrUnavailable)
	want(t, <-commit(log, 2, false), nil)
}

func TestAClosedLogRefuses(t *testing.T) {
	log := openOn(t, &disk{}, nil)
	log.Close()
	want(t, log.Append([]byte("r1"), 1), ErrClosed)
}

func TestClosingWritesWhatWaitsBehindAGap(t *testing.T) {
	d := &disk{}
	log := openOn(t, d, nil)
	second := commit(log, 2, false)
	log.Close()
	want(t, <-second, nil)
	want(t, d.lines(), []string{"r2"})
}

func TestSegmentsAreFilesOfTheirOwnThatRotate(t *testing.T) {
	directory := t.TempDir()
	options := Options{
		Directory: directory, Prefix: "decisions-", Sync: "group", SegmentBytes: 4, First: 1, Gap: time.Second,
	}
	log, err := Open(options)
	if err != nil {
		t.Fatal(err)
	}
	for sequence := uint64(1); sequence <= 4; sequence++ {
		want(t, <-commit(log, sequence, false), nil)
	}
	log.Close()
	files, _ := filepath.Glob(filepath.Join(directory, "decisions-*.jsonl"))
	want(t, len(files), 2)
	for _, file := range files {
		content, _ := os.ReadFile(file)
		want(t, strings.Count(string(content), "\n"), 2)
	}
}

func TestADirectoryThatCannotBeWrittenToIsFoundAtTheStart(t *testing.T) {
	if _, err := Open(Options{Directory: filepath.Join(t.TempDir(), "absent")}); err == nil {
		t.Fatal("opened")
	}
}

func BenchmarkCommit(b *testing.B) {
	log, err := Open(Options{Directory: b.TempDir(), Sync: "group", SegmentBytes: 1 << 30, First: 1, Gap: time.Second})
	if err != nil {
		b.Fatal(err)
	}
	defer log.Close()
	record := []byte(strings.Repeat("x", 1000))
	var mutex sync.Mutex
	sequence := uint64(0)
	for _, waiting := range []int{1, 16, 64} {
		b.Run(fmt.Sprint("waiting=", waiting), func(b *testing.B) {
			b.SetParallelism(waiting)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					mutex.Lock()
					sequence++
					mine := sequence
					mutex.Unlock()
					if err := log.Append(record, mine); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}

func TestARecordWaitsForThoseThatAreComingButNotForLong(t *testing.T) {
	now, coming := time.Now(), int64(2)
	log := &Log{waiting: queue{{Sequence: 1, arrived: now}}}
	want(t, log.moment(now), time.Duration(0))
	log.Gather(func() int64 { return coming })
	want(t, log.moment(now), gather)
	want(t, log.moment(now.Add(gather)), time.Duration(0))
	coming = 1
	want(t, log.moment(now), time.Duration(0))
	coming, log.closing = 2, true
	want(t, log.moment(now), time.Duration(0))
}

func TestARecordIsWrittenThoughThoseThatWereComingNeverDo(t *testing.T) {
	log := openOn(t, &disk{}, nil)
	log.Gather(func() int64 { return 10 })
	want(t, <-commit(log, 1, false), nil)
	want(t, <-commit(log, 2, true), nil)
}

func TestRecordsThatAreGivenAtOnceShareASync(t *testing.T) {
	d := &disk{}
	log := openOn(t, d, nil)
	var fates sync.WaitGroup
	entries := make([]*Entry, 8)
	for i := range entries {
		fates.Add(1)
		entries[i] = &Entry{Record: []byte("r"), Sequence: uint64(i + 1), Done: func(error) { fates.Done() }}
	}
	log.Commit(entries...)
	fates.Wait()
	want(t, d.syncs, 1)
}
