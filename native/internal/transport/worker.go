package transport

import (
	"log/slog"

	"authz/native/internal/barrier"
	"authz/native/internal/fault"
)

// work is one thread's share of the queue. A thread that was stuck ends after its call: another has its place.
func (s *Server) work() {
	worker := s.program.NewWorker()
	defer worker.Close()
	for call := range s.queue {
		s.handle(worker, call)
		if call.stuck.Load() {
			s.counters.stuck.Add(-1)
			s.updateHealth()
			return
		}
	}
}

// handle takes one call through the program. A panic on the way is a denial with a record, like any other failure.
func (s *Server) handle(worker Worker, call *Call) {
	defer s.forget(call)
	reply := Reply{}
	defer func() {
		if cause := recover(); cause != nil {
			s.panicked(call, reply, cause)
		}
	}()
	if call.Claim.Expired() && call.gone.Load() {
		s.counters.cancelled.Add(1)
		return
	}
	asked := call
	if call.Claim.Expired() {
		asked = call.refusal(DeadlineExceeded, nil)
	}
	call.started.Store(true)
	fault.Point("before_program")
	reply, replied := worker.Invoke(asked)
	fault.Point("after_program")
	s.conclude(call, asked, reply, replied)
}

// conclude sends the reply of whoever owns the answer, and only keeps the record of whoever does not.
func (s *Server) conclude(call, asked *Call, reply Reply, replied bool) {
	switch {
	case !replied:
		s.counters.unrecorded.Add(1)
		call.Claim.Commit()
		call.settle(call.refused(Internal))
	case asked.Kind == Refusal || !call.Claim.Commit() && call.Claim.Expired():
		s.keep(reply)
	default:
		s.commit(call, reply)
	}
}

// keep writes a record whose answer is out already. An allow among them would be a lie: it is refused.
func (s *Server) keep(reply Reply) {
	switch {
	case len(reply.Record) == 0:
		s.counters.unrecorded.Add(1)
	case reply.Allow:
		s.counters.unrecorded.Add(1)
		s.log.Void(reply.Sequence)
	default:
		s.log.Commit(&barrier.Entry{Record: reply.Record, Sequence: reply.Sequence, Keep: true, Done: func(error) {}})
	}
}

func (s *Server) panicked(call *Call, reply Reply, cause any) {
	s.counters.panics.Add(1)
	slog.Error("panic in the transport", "cause", cause)
	if len(reply.Record) > 0 {
		s.log.Void(reply.Sequence)
	}
	if call.Kind == Refusal {
		s.counters.unrecorded.Add(1)
		return
	}
	call.Claim.Commit()
	call.settle(call.refused(Internal))
	s.record(call, Internal, nil)
}
