package transport

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

func (s *service) health(t *testing.T, service string) string {
	t.Helper()
	answer, err := healthpb.NewHealthClient(s.connection).Check(context.Background(), &healthpb.HealthCheckRequest{Service: service})
	if err != nil {
		return status.Code(err).String()
	}
	return answer.Status.String()
}

func TestTooManyStuckCallsMakeHealthNotServingUntilTheyEnd(t *testing.T) {
	release := make(chan struct{})
	var stuckCalls atomic.Int32
	s := start(t, func(s *script, call *Call) (Reply, bool) {
		if stuckCalls.Add(1) <= 2 {
			<-release
		}
		return allow(s, call)
	}, nil)
	expect(t, "health", s.health(t, authorization), "SERVING")
	for range 2 {
		_, _ = s.ask("a")
	}
	expect(t, "health", s.health(t, ""), "NOT_SERVING")
	answer, _ := s.ask("b")
	expect(t, "an answer beside the stuck ones", answer, "allow:b")
	close(release)
	for s.Stats().Stuck > 0 {
		time.Sleep(time.Millisecond)
	}
	expect(t, "health", s.health(t, processor), "SERVING")
	answer, _ = s.ask("c")
	expect(t, "an answer afterwards", answer, "allow:c")
}

func TestHealthIsNotServingUntilToldAndWhileDraining(t *testing.T) {
	s := start(t, allow, nil)
	s.SetServing(false)
	expect(t, "health", s.health(t, ""), "NOT_SERVING")
	expect(t, "an unknown service", s.health(t, "other"), "NotFound")
	watcher, err := healthpb.NewHealthClient(s.connection).Watch(context.Background(), &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := watcher.Recv(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	expect(t, "drained", s.Drain(5*time.Second), true)
	if time.Since(began) > time.Second {
		t.Fatal("a watcher held the drain up")
	}
}

func TestDrainLetsCallsInFlightFinish(t *testing.T) {
	entered := make(chan struct{})
	release := make(chan struct{})
	s := start(t, func(s *script, call *Call) (Reply, bool) {
		close(entered)
		<-release
		return allow(s, call)
	}, func(o *Options) { o.Deadline = 5 * time.Second })
	answered := make(chan string)
	go func() {
		answer, err := s.ask("a")
		answered <- fmt.Sprint(answer, err)
	}()
	<-entered
	drained := make(chan bool)
	go func() { drained <- s.Drain(5 * time.Second) }()
	close(release)
	expect(t, "answer", <-answered, "allow:a<nil>")
	expect(t, "drained", <-drained, true)
	if _, err := net.Dial("tcp", s.Address()); err == nil {
		t.Fatal("still listening")
	}
}

func TestADrainEndsAtItsGrace(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	s := start(t, func(s *script, call *Call) (Reply, bool) {
		<-release
		return allow(s, call)
	}, nil)
	_, _ = s.ask("a")
	expect(t, "told of every call", s.Drain(20*time.Millisecond), false)
}
