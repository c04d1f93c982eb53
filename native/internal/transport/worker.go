package transport

import (
	"log/slog"

	"authz/native/internal/barrier"
	"authz/native/internal/fault"
)

// work is one thread's share of the queue. A thread that was replaced while it was stuck ends after its call.
func (s *Server) work() {
	worker := s.program.NewWorker()
	defer worker.Close()
	for call := range s.queue {
		call.stage.Store(running)
		s.handle(worker, call)
		if call.stage.CompareAndSwap(running, finished) {
			continue
		}
		s.counters.stuck.Add(-1)
		s.updateHealth()
		if call.stage.Load() == replaced {
			return
		}
	}
}

// handle takes one call through the program. A panic on the way is a denial with a record, like any other failure.
func (s *Server) handle(worker Worker, call *Call) {
	defer s.forget(call)
	reply, replied := Reply{}, false
	defer func() {
		if cause := recover(); cause != nil {
			s.panicked(call, reply, cause)
		}
	}()
	asked := call
	if call.Claim.Expired() {
		if call.gone.Load() {
			s.counters.cancelled.Add(1)
			return
		}
		asked = call.refusal(DeadlineExceeded, nil)
	}
	fault.Point("before_program")
	reply, replied = worker.Invoke(asked)
	fault.Point("after_program")
	s.conclude(call, asked, reply, replied && asked.answeredBy(reply))
}

// conclude sends the reply of whoever owns the answer, and only keeps the record of whoever does not.
func (s *Server) conclude(call, asked *Call, reply Reply, replied bool) {
	switch {
	case !replied:
		s.counters.unrecorded.Add(1)
		s.void(reply)
		call.Claim.Commit()
		call.settle(call.refused(Internal))
	case asked.Kind == Refusal || !call.Claim.Commit() && call.Claim.Expired():
		s.keep(reply)
	default:
		s.commit(call, reply)
	}
}

// keep writes a record whose answer is out already. An allow among them would be a lie.
func (s *Server) keep(reply Reply) {
	switch {
	case len(reply.Record) == 0:
	case reply.Allow:
		s.counters.unrecorded.Add(1)
		s.void(reply)
	default:
		s.append(&barrier.Entry{Record: reply.Record, Sequence: reply.Sequence, Keep: true, Done: s.kept})
	}
}

// panicked answers and records a call whose worker panicked, as whatever its caller has been told by now.
func (s *Server) panicked(call *Call, reply Reply, cause any) {
	s.counters.panics.Add(1)
	slog.Error("panic in the transport", "cause", cause)
	s.void(reply)
	call.Claim.Commit()
	switch {
	case call.Kind == Refusal:
		s.counters.unrecorded.Add(1)
	case call.Claim.Expired():
		s.record(call, DeadlineExceeded, nil)
	case call.settle(call.refused(Internal)):
		s.record(call, Internal, nil)
	default:
		s.record(call, AuditUnavailable, nil)
	}
}
