package transport

import (
	"errors"

	"authz/native/internal/barrier"
	"authz/native/internal/fault"
)

// commit sends a reply's answers once its record, in the entry, is durable.
func (s *Server) commit(call *Call, reply Reply) *barrier.Entry {
	if len(reply.Record) == 0 {
		call.settle(reply)
		return nil
	}
	entry := &barrier.Entry{Record: reply.Record, Sequence: reply.Sequence, Keep: !reply.Allow}
	if reply.Allow {
		entry.Claim = func() bool { return !call.outcome.Expired() }
	}
	entry.Done = func(err error) { s.durable(call, reply, err) }
	fault.Point("barrier")
	return entry
}

// durable runs when a record's fate is known. An allow without a record becomes a denial; a denial stands either way.
func (s *Server) durable(call *Call, reply Reply, err error) {
	switch {
	case !reply.Allow:
		call.settle(reply)
		s.kept(err)
	case err != nil:
		s.counters.auditRefused.Add(1)
		call.settle(call.refused(AuditUnavailable))
		s.record(call, AuditUnavailable, nil)
	case !call.settle(reply):
		// The denial went out while the allow was being written: the log says so too.
		s.record(call, AuditUnavailable, reply.Record)
	}
}

// kept counts what no disk will ever hold. ErrUnavailable is not that: the record waits in memory.
func (s *Server) kept(err error) {
	if err != nil && !errors.Is(err, barrier.ErrUnavailable) {
		s.counters.unrecorded.Add(1)
	}
}

// record asks the program for the record of an answer that the transport gave by itself. Written is the record of this
// call that the log may hold already and that the new one must amend.
func (s *Server) record(call *Call, reason string, written []byte) {
	refusal := call.refusal(reason, written)
	s.counters.pending.Add(1)
	s.calls.Add(1)
	select {
	case s.room <- struct{}{}:
		s.lane(refusal).push(Event{Call: refusal})
	default:
		s.counters.unrecorded.Add(1)
		s.forget(refusal)
	}
}

func (s *Server) append(entries []*barrier.Entry) {
	if s.log != nil {
		s.log.Commit(entries...)
		return
	}
	for _, entry := range entries {
		entry.Done(barrier.ErrClosed)
	}
}

// void gives back the number of a record that will not be written.
func (s *Server) void(reply Reply) {
	if s.log != nil && len(reply.Record) > 0 {
		s.log.Void(reply.Sequence)
	}
}
