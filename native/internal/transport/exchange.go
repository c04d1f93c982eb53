package transport

import (
	"context"
	"errors"
	"time"

	"authz/native/internal/barrier"
	"authz/native/internal/fault"
)

// exchange takes a call to the program and comes back with its answers, or with the transport's own at the deadline.
// Exactly one of program, watchdog and barrier wins; the others only see to the record.
func (s *Server) exchange(ctx context.Context, call *Call) Reply {
	s.counters.calls.Add(1)
	if !s.submit(ctx, call) {
		// Nobody was told of this call, so nobody can record it; admission makes this all but impossible.
		s.counters.unrecorded.Add(1)
		return call.refused(DeadlineExceeded)
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

// expire counts an expired call. If it is inside the program just now, its thread may be stuck: another takes its place
// until there are too many, and then this process is not fit to serve.
func (s *Server) expire(call *Call) {
	s.counters.expired.Add(1)
	if !call.started.Load() || !call.stuck.CompareAndSwap(false, true) {
		return
	}
	if s.counters.stuck.Add(1) <= s.options.StuckLimit {
		go s.work()
	}
	s.updateHealth()
}

func (s *Server) submit(ctx context.Context, call *Call) bool {
	s.counters.pending.Add(1)
	s.calls.Add(1)
	select {
	case s.queue <- call:
		return true
	case <-ctx.Done():
		s.forget(call)
		return false
	}
}

// forget ends a call's time with the program.
func (s *Server) forget(call *Call) {
	s.counters.pending.Add(-1)
	s.calls.Done()
	if call.Kind != Refusal {
		close(call.finished)
	}
}

// record asks the program for the record of an answer that the transport gave by itself.
func (s *Server) record(call *Call, reason string, written []byte) {
	refusal := call.refusal(reason, written)
	s.counters.pending.Add(1)
	s.calls.Add(1)
	select {
	case s.queue <- refusal:
	default:
		s.counters.unrecorded.Add(1)
		s.forget(refusal)
	}
}

// commit sends a reply's answers once its record is durable.
func (s *Server) commit(call *Call, reply Reply) {
	if len(reply.Record) == 0 {
		s.deliver(call, reply)
		return
	}
	entry := &barrier.Entry{Record: reply.Record, Sequence: reply.Sequence, Keep: !reply.Allow}
	if reply.Allow {
		entry.Claim = func() bool { return !call.outcome.Expired() }
	}
	entry.Done = func(err error) { s.durable(call, reply, err) }
	fault.Point("barrier")
	s.log.Commit(entry)
}

// durable runs when a record's fate is known. An allow without a record becomes a denial; a denial stands either way.
func (s *Server) durable(call *Call, reply Reply, err error) {
	switch {
	case err != nil && reply.Allow:
		s.counters.refused.Add(1)
		call.settle(call.refused(AuditUnavailable))
		s.record(call, AuditUnavailable, nil)
	case !call.settle(reply) && reply.Allow:
		// The denial went out while the allow was being written: the log says so too.
		s.record(call, AuditUnavailable, reply.Record)
	}
}

// deliver sends answers that need no record.
func (s *Server) deliver(call *Call, reply Reply) { call.settle(reply) }
