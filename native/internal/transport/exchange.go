package transport

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"authz/native/internal/fault"
)

// exchange takes a call to the program and comes back with its answers, or with the transport's own at the deadline.
// Exactly one of program, watchdog and barrier wins; the others only see to the record.
func (s *Server) exchange(ctx context.Context, call *Call) (reply Reply) {
	s.counters.calls.Add(1)
	submitted := false
	defer func() {
		if cause := recover(); cause != nil {
			reply = s.broken(call, submitted, cause)
		}
	}()
	fault.Point("handler")
	if submitted = s.submit(ctx, call); !submitted {
		return s.turnedAway(ctx, call)
	}
	select {
	case reply := <-call.settled:
		return reply
	case <-ctx.Done():
	}
	// A caller that left before anything was decided has no answer to agree with, so needs no record.
	call.gone.Store(!errors.Is(context.Cause(ctx), errDeadline))
	if call.Claim.Expire() {
		s.expire(call)
		return call.refused(DeadlineExceeded)
	}
	return s.afterCommit(call)
}

// turnedAway ends a call whose turn never came: calls that arrive at once are all admitted, and may be more than can
// wait. The program was not told, so nobody can record it, and a check is shed like one that was not admitted.
func (s *Server) turnedAway(ctx context.Context, call *Call) Reply {
	switch {
	case !errors.Is(context.Cause(ctx), errDeadline):
		s.counters.cancelled.Add(1)
	case call.Kind == Check:
		s.counters.shed.Add(1)
		return Reply{}
	default:
		s.counters.unrecorded.Add(1)
	}
	return call.refused(DeadlineExceeded)
}

// broken answers a call whose own goroutine panicked. If the program has it already, the watchdog's way out serves: the
// program will find its claim lost.
func (s *Server) broken(call *Call, submitted bool, cause any) Reply {
	s.counters.panics.Add(1)
	slog.Error("panic in the transport", "cause", cause)
	if submitted && (call.Claim.Expire() || call.outcome.Expire()) {
		return call.refused(DeadlineExceeded)
	}
	if !submitted {
		close(call.finished)
		s.record(call, Internal, nil)
	}
	return call.refused(Internal)
}

// afterCommit waits a little longer for a decision that is made but not answered yet: the disk is slow, or the program
// was interrupted. Envoy must still hear a denial from us before its own timeout.
func (s *Server) afterCommit(call *Call) Reply {
	timer := time.NewTimer(s.options.CommitGrace)
	defer timer.Stop()
	select {
	case reply := <-call.settled:
		return reply
	case <-timer.C:
	}
	if call.outcome.Expire() {
		s.counters.late.Add(1)
		return call.refused(AuditUnavailable)
	}
	return <-call.settled
}

// expire counts an expired call. With too many threads stuck in such calls this process is not fit to serve.
func (s *Server) expire(call *Call) {
	s.counters.expired.Add(1)
	if s.lane(call).overdue(call) {
		s.updateHealth()
	}
}

// lane is where a call waits. Events of streams wait apart: what they do may take longer, and wait for the disk.
func (s *Server) lane(call *Call) *lane {
	if call.Stream == 0 {
		return s.checks
	}
	return s.events
}

func (s *Server) submit(ctx context.Context, call *Call) bool {
	s.counters.pending.Add(1)
	s.calls.Add(1)
	select {
	case s.room <- struct{}{}:
		s.lane(call).push(Event{Call: call})
		return true
	case <-ctx.Done():
		s.forget(call)
		return false
	}
}

// forget ends a call's time with the program.
func (s *Server) forget(call *Call) {
	s.counters.pending.Add(-1)
	s.done(call)
}

// done says that nothing will be handed over for a call any more.
func (s *Server) done(call *Call) {
	s.calls.Done()
	if call.Kind != Refusal {
		close(call.finished)
	}
}
