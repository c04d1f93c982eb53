package transport

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"authz/native/internal/barrier"
	"authz/native/internal/fault"
)

// script is a program whose replies are functions; refusals are answered like any program's, with a record.
type script struct {
	reply    func(*Call) (Reply, bool)
	sequence atomic.Uint64
	mutex    sync.Mutex
	refused  []string
	events   []string
	left     []Event
	words    []Word
}

// join takes turns on every seat of a server. What a stuck thread has left or said, another goes on with or says.
func (s *script) join(server *Server) {
	for number := range server.Seats() {
		go s.take(server, server.Seat(number))
	}
}

func (s *script) take(server *Server, seat *Seat) {
	for {
		events, open := server.Turn(seat, s.say())
		if !open {
			return
		}
		s.mutex.Lock()
		s.left = append(s.left, events...)
		s.mutex.Unlock()
		for event := s.next(); event != nil; event = s.next() {
			word := Word{Number: event.Call.Number}
			if reply, replied := s.invoke(event); replied {
				word.Reply = &reply
			}
			s.mutex.Lock()
			s.words = append(s.words, word)
			s.mutex.Unlock()
		}
	}
}

func (s *script) say() (words []Word) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	words, s.words = s.words, nil
	return words
}

func (s *script) next() *Event {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if len(s.left) == 0 {
		return nil
	}
	event := s.left[0]
	s.left = s.left[1:]
	return &event
}

func (s *script) invoke(event *Event) (Reply, bool) {
	call := event.Call
	s.mutex.Lock()
	s.events = append(s.events, fmt.Sprintf("%d %d %s", call.Kind, call.Stream, call.Request))
	s.mutex.Unlock()
	if call.Kind != Refusal {
		return s.reply(call)
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.refused = append(s.refused, fmt.Sprintf("%s %t", call.Reason, len(call.Record) > 0))
	return s.recorded(call.Reason, false), true
}

// recorded is a reply with a record of its own.
func (s *script) recorded(answer string, allow bool) Reply {
	return Reply{Answers: [][]byte{[]byte(answer)}, Allow: allow, Record: []byte(answer), Sequence: s.sequence.Add(1)}
}

func (s *script) refusals() string {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return strings.Join(s.refused, " ")
}

func (s *script) told() []string {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return append([]string{}, s.events...)
}

type service struct {
	*Server
	*script
	directory  string
	connection *grpc.ClientConn
	log        *barrier.Log
}

func start(t *testing.T, reply func(*script, *Call) (Reply, bool), change func(*Options)) *service {
	t.Helper()
	s := &service{script: &script{}, directory: t.TempDir()}
	s.script.reply = func(call *Call) (Reply, bool) { return reply(s.script, call) }
	var err error
	s.log, err = barrier.Open(barrier.Options{
		Directory: s.directory, Prefix: "decisions-", Sync: "none", SegmentBytes: 1 << 20, First: 1, Gap: time.Second, RingBytes: 1 << 20,
	})
	if err != nil {
		t.Fatal(err)
	}
	options := defaults()
	if change != nil {
		change(&options)
	}
	if s.Server, err = Serve(options, noEngine, s.log); err != nil {
		t.Fatal(err)
	}
	s.join(s.Server)
	s.SetServing(true)
	s.connection = dial(t, s.Address())
	t.Cleanup(func() {
		s.Drain(time.Second)
		s.log.Close()
	})
	return s
}

func noEngine(Question) Result { return Result{} }

func defaults() Options {
	answers := map[string][]byte{}
	for _, reason := range []string{Internal, DeadlineExceeded, AuditUnavailable} {
		answers[reason] = []byte("library: " + reason)
	}
	return Options{
		Listen: "127.0.0.1:0", SocketMode: 0o600, MaxMessageBytes: 1 << 20, MaxStreams: 100, MaxConnections: 100, MaxPending: 100,
		Workers: 2, StreamWorkers: 2, StuckLimit: 2, Deadline: 60 * time.Millisecond, CommitGrace: 30 * time.Millisecond, Handshake: 100 * time.Millisecond,
		KeepaliveIdle: time.Minute, KeepaliveAnswer: time.Minute, Fallback: answers, StreamFallback: answers,
	}
}

func dial(t *testing.T, address string) *grpc.ClientConn {
	t.Helper()
	connection, err := grpc.NewClient(address,
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.ForceCodecV2(newCodec())))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	return connection
}

func (s *service) ask(request string) (string, error) {
	ctx, release := context.WithTimeout(context.Background(), 5*time.Second)
	defer release()
	answer := &frame{}
	err := s.connection.Invoke(ctx, checkMethod, &frame{bytes: []byte(request)}, answer)
	return string(answer.bytes), err
}

// records drains the server and reads what is on disk.
func (s *service) records(t *testing.T) string {
	t.Helper()
	s.Drain(5 * time.Second)
	s.log.Close()
	var lines []string
	files, _ := filepath.Glob(filepath.Join(s.directory, "*.jsonl"))
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, strings.Split(strings.TrimSpace(string(content)), "\n")...)
	}
	return strings.Join(lines, "|")
}

func allow(s *script, call *Call) (Reply, bool) {
	if !call.Claim.Commit() {
		return s.recorded("late", false), true
	}
	return s.recorded("allow:"+string(call.Request), true), true
}

func expect(t *testing.T, what string, got, want any) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("%s: got %v, want %v", what, got, want)
	}
}

func TestAnAnswerGoesOutWithItsRecordWritten(t *testing.T) {
	s := start(t, allow, nil)
	answer, err := s.ask("a")
	expect(t, "answer", answer, "allow:a")
	expect(t, "error", err, nil)
	expect(t, "records", s.records(t), "allow:a")
}

func TestNoReplyIsTheLibrarysDenial(t *testing.T) {
	for name, reply := range map[string]Reply{
		"nothing":                {},
		"an empty answer, A2":    {Answers: [][]byte{{}}, Allow: true},
		"two answers to a check": {Answers: [][]byte{[]byte("a"), []byte("b")}, Allow: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, func(*script, *Call) (Reply, bool) { return reply, len(reply.Answers) > 0 }, nil)
			answer, err := s.ask("a")
			expect(t, "answer", answer, "library: SYS_INTERNAL")
			expect(t, "error", err, nil)
			expect(t, "unrecorded", s.Stats().Unrecorded, 1)
		})
	}
}

func TestAPanicAnywhereIsADenialWithOneRecord(t *testing.T) {
	for place, want := range map[string][2]string{
		"handler":        {"library: SYS_INTERNAL", "SYS_INTERNAL"},
		"before_program": {"library: SYS_INTERNAL", "SYS_INTERNAL"},
		"after_program":  {"library: SYS_INTERNAL", "SYS_INTERNAL"},
		"barrier":        {"library: SYS_INTERNAL", "SYS_INTERNAL"},
		"log":            {"library: AUDIT_UNAVAILABLE", "AUDIT_UNAVAILABLE"},
	} {
		t.Run(place, func(t *testing.T) {
			s := start(t, allow, nil)
			fault.Arm(place)
			answer, err := s.ask("a")
			expect(t, "answer", answer, want[0])
			expect(t, "error", err, nil)
			answer, _ = s.ask("b")
			expect(t, "the next answer", answer, "allow:b")
			expect(t, "records", sorted(s.records(t)), sorted(want[1]+"|allow:b"))
		})
	}
}

func sorted(records string) string {
	lines := strings.Split(records, "|")
	for i := range lines {
		for j := range i {
			if lines[j] > lines[i] {
				lines[i], lines[j] = lines[j], lines[i]
			}
		}
	}
	return strings.Join(lines, "|")
}

func TestTheWatchdogAnswersWhileTheProgramIsStuckAndTheLoserRecordsOnce(t *testing.T) {
	release := make(chan struct{})
	s := start(t, func(s *script, call *Call) (Reply, bool) {
		<-release
		return allow(s, call)
	}, nil)
	answer, err := s.ask("a")
	expect(t, "answer", answer, "library: SYS_DEADLINE")
	expect(t, "error", err, nil)
	expect(t, "stuck", s.Stats().Stuck, 1)
	close(release)
	expect(t, "records", s.records(t), "late")
	expect(t, "stuck afterwards", s.Stats().Stuck, 0)
}

func TestACommittedDecisionIsNotOvertakenByTheDeadline(t *testing.T) {
	s := start(t, func(s *script, call *Call) (Reply, bool) {
		call.Claim.Commit()
		time.Sleep(75 * time.Millisecond)
		return s.recorded("allow", true), true
	}, nil)
	answer, _ := s.ask("a")
	expect(t, "answer", answer, "allow")
	expect(t, "records", s.records(t), "allow")
}

func TestACommittedDecisionThatIsTooLateIsRefusedAndItsRecordSaysSo(t *testing.T) {
	release := make(chan struct{})
	s := start(t, func(s *script, call *Call) (Reply, bool) {
		call.Claim.Commit()
		<-release
		return s.recorded("allow", true), true
	}, nil)
	answer, _ := s.ask("a")
	close(release)
	expect(t, "answer", answer, "library: AUDIT_UNAVAILABLE")
	expect(t, "records", s.records(t), "AUDIT_UNAVAILABLE")
	expect(t, "refusals", s.refusals(), "AUDIT_UNAVAILABLE false")
}

func TestCallsThatExpireInTheQueueAreRecordedToo(t *testing.T) {
	release := make(chan struct{})
	s := start(t, func(s *script, call *Call) (Reply, bool) {
		<-release
		return allow(s, call)
	}, func(o *Options) { o.Workers, o.StuckLimit = 1, 1 })
	var callers sync.WaitGroup
	for range 5 {
		callers.Go(func() {
			answer, err := s.ask("a")
			if answer != "library: SYS_DEADLINE" || err != nil {
				t.Errorf("%s, %v", answer, err)
			}
		})
	}
	callers.Wait()
	close(release)
	expect(t, "records", strings.Count(s.records(t), "|"), 4)
	expect(t, "unrecorded", s.Stats().Unrecorded, 0)
}

func TestWhatIsNotEnvoysIsUnimplemented(t *testing.T) {
	s := start(t, allow, nil)
	for _, method := range []string{
		"/envoy.service.auth.v2.Authorization/Check", "/envoy.service.auth.v3.Authorization/Other",
		"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
	} {
		err := s.connection.Invoke(context.Background(), method, &frame{bytes: []byte("a")}, &frame{})
		expect(t, method, status.Code(err), codes.Unimplemented)
	}
}

func TestACallThatNobodyWaitsForAnyMoreIsNotDecided(t *testing.T) {
	entered, release := make(chan struct{}, 1), make(chan struct{})
	s := start(t, func(s *script, call *Call) (Reply, bool) {
		entered <- struct{}{}
		<-release
		return allow(s, call)
	}, func(o *Options) { o.Workers, o.Deadline = 1, 5*time.Second })
	go func() { _, _ = s.ask("a") }()
	<-entered
	ctx, cancel := context.WithCancel(context.Background())
	gone := make(chan error)
	go func() { gone <- s.connection.Invoke(ctx, checkMethod, &frame{bytes: []byte("b")}, &frame{}) }()
	for s.Stats().Pending < 2 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	expect(t, "error", status.Code(<-gone), codes.Canceled)
	for s.Stats().Calls < 2 || s.counters.expired.Load() < 1 {
		time.Sleep(time.Millisecond)
	}
	close(release)
	expect(t, "records", s.records(t), "allow:a")
	expect(t, "cancelled", s.Stats().Cancelled, 1)
}

func TestMoreCallsThanCanWaitAreRefusedBeforeTheyAreRead(t *testing.T) {
	release := make(chan struct{})
	s := start(t, func(s *script, call *Call) (Reply, bool) {
		<-release
		return allow(s, call)
	}, func(o *Options) { o.MaxPending, o.Deadline = 1, 5*time.Second })
	answered := make(chan string)
	go func() {
		answer, _ := s.ask("a")
		answered <- answer
	}()
	for s.Stats().Pending < 1 {
		time.Sleep(time.Millisecond)
	}
	_, err := s.ask("b")
	expect(t, "error", status.Code(err), codes.ResourceExhausted)
	close(release)
	expect(t, "the first", <-answered, "allow:a")
}

func TestK2ACallWhoseTurnNeverComesIsShedAndNotLeftUnrecorded(t *testing.T) {
	release := make(chan struct{})
	s := start(t, func(s *script, call *Call) (Reply, bool) {
		<-release
		return allow(s, call)
	}, func(o *Options) { o.MaxPending, o.Workers, o.Deadline = 1, 1, 5*time.Second })
	check := func(ctx context.Context) error {
		_, err := s.check(nil, ctx, func(any) error { return nil }, nil)
		return err
	}
	done := make(chan error)
	for pending := range int64(2) {
		go func() { done <- check(context.Background()) }()
		for s.Stats().Pending <= pending {
			time.Sleep(time.Millisecond)
		}
	}
	late, end := context.WithDeadlineCause(context.Background(), time.Now(), errDeadline)
	defer end()
	expect(t, "error", status.Code(check(late)), codes.ResourceExhausted)
	gone, leave := context.WithCancel(context.Background())
	leave()
	expect(t, "answer to nobody", fmt.Sprint(check(gone)), "<nil>")
	close(release)
	expect(t, "those before", fmt.Sprint(errors.Join(<-done, <-done)), "<nil>")
	stats := s.Stats()
	expect(t, "counters", fmt.Sprint(stats.Shed, stats.Cancelled, stats.Unrecorded), "1 1 0")
}

func TestFallbackAnswersAreRequired(t *testing.T) {
	options := defaults()
	options.Fallback = map[string][]byte{Internal: []byte("x")}
	if _, err := Serve(options, noEngine, nil); err == nil {
		t.Fatal("served without an answer for the deadline")
	}
}

func TestAReplyWithARecordNeedsALog(t *testing.T) {
	program := &script{}
	program.reply = func(call *Call) (Reply, bool) { return allow(program, call) }
	server, err := Serve(defaults(), noEngine, nil)
	if err != nil {
		t.Fatal(err)
	}
	program.join(server)
	defer server.Drain(time.Second)
	s := &service{Server: server, connection: dial(t, server.Address())}
	answer, _ := s.ask("a")
	expect(t, "answer", answer, "library: AUDIT_UNAVAILABLE")
}
