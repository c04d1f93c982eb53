package transport

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

// unattended serves without threads: the test takes the turns itself.
func unattended(t *testing.T, engine Engine, change func(*Options)) *service {
	t.Helper()
	options := defaults()
	options.Workers, options.Deadline = 1, 5*time.Second
	if change != nil {
		change(&options)
	}
	server, err := Serve(options, engine, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Drain(0) })
	return &service{Server: server, connection: dial(t, server.Address())}
}

// asks sends calls at once and gives the answers as they come.
func (s *service) asks(requests ...string) <-chan string {
	answers := make(chan string, len(requests))
	for _, request := range requests {
		go func() {
			answer, err := s.ask(request)
			answers <- fmt.Sprint(answer, err)
		}()
	}
	return answers
}

func denied(call *Call, answer string) Word {
	return Word{Number: call.Number, Reply: &Reply{Answers: [][]byte{[]byte(answer)}}}
}

func TestAQuestionIsAnsweredByAnEventOfItsCall(t *testing.T) {
	s := unattended(t, func(q Question) Result {
		return Result{Status: int(q.Query), Content: append(q.Input, " evaluated"...)}
	}, nil)
	answers := s.asks("a")
	seat := s.Seat(0)
	begun, _ := s.Turn(seat, nil)
	call := begun[0].Call
	events, _ := s.Turn(seat, []Word{{Number: call.Number, Question: &Question{Query: 7, Input: []byte("input")}}})
	expect(t, "call", events[0].Call == call, true)
	expect(t, "result", fmt.Sprint(events[0].Result.Status, string(events[0].Result.Content)), "7input evaluated")
	go s.Turn(seat, []Word{denied(call, "done")})
	expect(t, "answer", <-answers, "done<nil>")
}

func TestASlowQuestionHoldsUpNoOther(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	s := unattended(t, func(q Question) Result {
		if strings.HasPrefix(string(q.Input), "slow") {
			<-release
		}
		return Result{Content: q.Input}
	}, nil)
	s.asks("slow")
	seat := s.Seat(0)
	begun, _ := s.Turn(seat, nil)
	large := append([]byte("slow"), make([]byte, quickBytes)...)
	slow := Word{Number: begun[0].Call.Number, Question: &Question{Input: large}}
	s.asks("a")
	begun, _ = s.Turn(seat, []Word{slow})
	events, _ := s.Turn(seat, []Word{{Number: begun[0].Call.Number, Question: &Question{Input: []byte("a")}}})
	expect(t, "result", string(events[0].Result.Content), "a")
}

func TestAfterASlowQuestionNoneHoldsUpAnother(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	s := unattended(t, func(q Question) Result {
		switch string(q.Input) {
		case "first":
			time.Sleep(2 * slow)
		case "slow":
			<-release
		}
		return Result{Content: q.Input}
	}, nil)
	seat := s.Seat(0)
	ask := func(input string, words ...Word) Word {
		s.asks(input)
		begun, _ := s.Turn(seat, words)
		return Word{Number: begun[0].Call.Number, Question: &Question{Input: []byte(input)}}
	}
	first := ask("first")
	events, _ := s.Turn(seat, []Word{first})
	expect(t, "the first result", string(events[0].Result.Content), "first")
	question := ask("a", ask("slow", denied(events[0].Call, "done")))
	events, _ = s.Turn(seat, []Word{question})
	expect(t, "the result beside the slow one", string(events[0].Result.Content), "a")
}

func TestCallsThatWaitAreTakenTogether(t *testing.T) {
	s := unattended(t, noEngine, nil)
	answers := s.asks("a", "b", "c")
	for s.Stats().Pending < 3 {
		time.Sleep(time.Millisecond)
	}
	seat, words := s.Seat(0), []Word{}
	events, _ := s.Turn(seat, nil)
	for _, event := range events {
		words = append(words, denied(event.Call, string(event.Call.Request)))
	}
	expect(t, "together", len(words), 3)
	go s.Turn(seat, words)
	for range 3 {
		<-answers
	}
}

func TestAThreadThatStaysAwayIsRelievedAndOnlyThen(t *testing.T) {
	s := unattended(t, noEngine, nil)
	s.asks("a", "b")
	first, _ := s.Turn(s.Seat(0), nil)
	taken := make(chan []Event)
	go func() {
		events, _ := s.Turn(s.Seat(1), nil)
		taken <- events
	}()
	select {
	case <-taken:
		if time.Since(s.Seat(0).since) < patience {
			t.Fatal("two threads were let in at once")
		}
	case <-time.After(5 * time.Second):
		t.Fatal("nobody relieved the thread that stays away")
	}
	expect(t, "the first had a call", len(first) > 0, true)
	expect(t, "spare", s.checks.spare, 1)
	go s.Turn(s.Seat(0), nil)
	for {
		s.checks.mutex.Lock()
		spare, allowed := s.checks.spare, s.checks.allowed
		s.checks.mutex.Unlock()
		if spare == 2 && allowed == 1 {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

func TestASlowCallHoldsUpOnlyItself(t *testing.T) {
	release := make(chan struct{})
	s := start(t, func(s *script, call *Call) (Reply, bool) {
		if string(call.Request) == "slow" {
			<-release
		}
		return allow(s, call)
	}, func(o *Options) { o.Workers, o.Deadline = 1, 5*time.Second })
	slow := s.asks("slow")
	for len(s.told()) < 1 {
		time.Sleep(time.Millisecond)
	}
	var callers sync.WaitGroup
	for range 20 {
		callers.Go(func() {
			if answer, err := s.ask("a"); answer != "allow:a" {
				t.Error(answer, err)
			}
		})
	}
	callers.Wait()
	close(release)
	expect(t, "the slow one", <-slow, "allow:slow<nil>")
	expect(t, "stuck", s.Stats().Stuck, 0)
}

func TestWordsOfACallThatNobodyHasAreNotHeard(t *testing.T) {
	s := unattended(t, noEngine, nil)
	answers := s.asks("a")
	seat := s.Seat(0)
	events, _ := s.Turn(seat, nil)
	call := events[0].Call
	go s.Turn(seat, []Word{{Number: call.Number + 1}, denied(call, "first"), denied(call, "second")})
	expect(t, "answer", <-answers, "first<nil>")
	expect(t, "unrecorded", s.Stats().Unrecorded, 0)
}

func TestADrainSendsTheThreadsHome(t *testing.T) {
	s := unattended(t, noEngine, nil)
	home := make(chan bool)
	for number := range s.Seats() {
		go func() {
			_, open := s.Turn(s.Seat(number), nil)
			home <- open
		}()
	}
	expect(t, "drained", s.Drain(time.Second), true)
	for range s.Seats() {
		expect(t, "more to come", <-home, false)
	}
	_, open := s.Turn(s.Seat(0), nil)
	expect(t, "more to come afterwards", open, false)
	expect(t, "a seat that is none", s.Seat(s.Seats()) == nil && s.Seat(-1) == nil, true)
}
