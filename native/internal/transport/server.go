// Package transport speaks gRPC with Envoy and asks one program for every answer.
//
// It decides nothing about a call. It must never answer with a bare gRPC error where an explicit denial is possible,
// never leave a call without an answer past its deadline, and never send an allow whose record is not durable. It trusts
// the program's replies, and nothing that comes over the wire.
package transport

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"

	"authz/native/internal/barrier"
)

const checkMethod = "/envoy.service.auth.v3.Authorization/Check"

var errDeadline = errors.New("the decision's deadline has passed")

// Server is one listening address.
type Server struct {
	options  Options
	log      *barrier.Log
	listener net.Listener
	grpc     *grpc.Server
	health   *health.Server
	room     chan struct{}
	checks   *lane
	events   *lane
	engines  engines
	streams  sync.Map
	streamID atomic.Uint64
	counters counters
	calls    sync.WaitGroup

	mutex          sync.Mutex
	serving        bool
	draining, once sync.Once
	drained        chan struct{}
}

// Serve listens and answers until Drain, once the program's threads take their turns. The log may be nil if no reply has
// a record.
func Serve(options Options, engine Engine, log *barrier.Log) (*Server, error) {
	if err := options.verify(); err != nil {
		return nil, err
	}
	s := &Server{
		options: options,
		engines: engines{engine: engine},
		log:     log,
		health:  health.NewServer(),
		room:    make(chan struct{}, options.MaxPending),
		drained: make(chan struct{}),
	}
	if log != nil {
		log.Gather(s.counters.pending.Load)
	}
	s.checks = newLane(options.Workers, int(options.StuckLimit), &s.counters)
	s.events = newLane(options.StreamWorkers, int(options.StuckLimit), &s.counters)
	security, err := options.TLS.options(&s.counters)
	if err != nil {
		return nil, err
	}
	if s.listener, err = s.listen(); err != nil {
		return nil, err
	}
	s.grpc = grpc.NewServer(append(append(options.grpc(), security...), grpc.InTapHandle(s.admit))...)
	if err := s.register(); err != nil {
		return nil, errors.Join(err, s.listener.Close())
	}
	s.updateHealth()
	go func() { _ = s.grpc.Serve(s.listener) }()
	return s, nil
}

// Address is where the server listens, with the port it was given.
func (s *Server) Address() string {
	if s.listener.Addr().Network() == "unix" {
		return s.options.Listen
	}
	return s.listener.Addr().String()
}

var errTooMany = status.Error(codes.ResourceExhausted, "too many calls are waiting")

// admit runs before a call's message is read: it sheds what cannot be queued, and starts the deadline, so that a
// message that trickles in (slow loris) is cut by it too.
func (s *Server) admit(ctx context.Context, call *tap.Info) (context.Context, error) {
	if s.counters.pending.Load() >= int64(s.options.MaxPending) {
		s.counters.shed.Add(1)
		return ctx, errTooMany
	}
	if call.FullMethodName != checkMethod {
		return ctx, nil
	}
	ctx, release := context.WithTimeoutCause(ctx, s.options.Deadline, errDeadline)
	_ = release // the stream's own context ends with the call, and releases the timer then
	return ctx, nil
}

// acknowledge is how long peers have to acknowledge the GOAWAY. One that never does would hold a drain up for ever.
const acknowledge = 500 * time.Millisecond

// Drain takes no new calls, lets those in flight finish, and cuts what is left after the grace. It tells whether the
// program was told of every call, so that no record is missing.
func (s *Server) Drain(grace time.Duration) bool {
	ctx, release := context.WithTimeout(context.Background(), grace)
	defer release()
	s.health.Shutdown()
	s.draining.Do(func() { close(s.drained) })
	peers, released := context.WithTimeout(ctx, acknowledge)
	defer released()
	if !within(peers, s.grpc.GracefulStop) {
		within(ctx, s.calls.Wait)
	}
	s.grpc.Stop()
	if !within(ctx, s.calls.Wait) && s.counters.pending.Load() > 0 {
		return false
	}
	s.once.Do(func() {
		s.checks.close()
		s.events.close()
		s.engines.close()
	})
	return true
}

func within(ctx context.Context, wait func()) bool {
	done := make(chan struct{})
	go func() {
		wait()
		close(done)
	}()
	select {
	case <-done:
		return true
	case <-ctx.Done():
		return false
	}
}
