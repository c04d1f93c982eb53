package transport

import (
	"log/slog"
	"time"

	"authz/native/internal/barrier"
	"authz/native/internal/fault"
)

// Event is what the program is told: a call to begin with, or the result of an evaluation that it asked for.
type Event struct {
	Call   *Call
	Result *Result
}

// size is about what an event takes in a batch.
func (e Event) size() int {
	if e.Result != nil {
		return len(e.Result.Content)
	}
	return len(e.Call.Request) + len(e.Call.Record)
}

// Word is what the program says of a call: a reply, an evaluation that it needs first, or neither, which is a failure.
type Word struct {
	Number   uint64
	Reply    *Reply
	Question *Question
}

// Question is one evaluation.
type Question struct {
	Query    uint64
	Input    []byte
	Deadline time.Duration
}

// Result is what an engine answers. What the status means is between it and the program.
type Result struct {
	Status  int
	Content []byte
}

// Seat is the place of the program's thread of this number; nil if there is none.
func (s *Server) Seat(number int) *Seat {
	if checks := len(s.checks.seats); number >= checks {
		return s.events.seat(number - checks)
	}
	return s.checks.seat(number)
}

// Seats is how many threads the program is to send.
func (s *Server) Seats() int { return len(s.checks.seats) + len(s.events.seats) }

// Turn hears what a thread of the program has to say and comes back with what is next for it, waiting if need be. False
// means that the server is done with the program.
func (s *Server) Turn(seat *Seat, words []Word) ([]Event, bool) {
	s.hear(seat.lane, words)
	if seat.lane.back(seat) {
		s.updateHealth()
	}
	batch, open := seat.lane.next(seat)
	events := batch[:0]
	for _, event := range batch {
		if event.Result == nil {
			event.Call = s.begin(event.Call)
		}
		if event.Call != nil {
			events = append(events, event)
		}
	}
	return events, open
}

// begin is the start of a call's time with the program: nil if there is nothing to ask any more.
func (s *Server) begin(call *Call) (asked *Call) {
	defer func() {
		if cause := recover(); cause != nil {
			s.panicked(call, Reply{}, cause)
			s.forget(call)
			asked = nil
		}
	}()
	<-s.room
	asked = call
	if call.Claim.Expired() {
		if call.gone.Load() {
			s.counters.cancelled.Add(1)
			s.forget(call)
			return nil
		}
		asked = call.refusal(DeadlineExceeded, nil)
		asked.instead = call
	}
	fault.Point("before_program")
	s.lane(asked).hold(asked)
	return asked
}

// hear takes the program at its words. First the replies, whose records go to the log together; then what it asks.
func (s *Server) hear(lane *lane, words []Word) {
	var entries []*barrier.Entry
	var concluded []*Call
	for _, word := range words {
		if word.Question != nil {
			continue
		}
		asked := lane.find(word.Number, false)
		if asked == nil {
			continue
		}
		call, entry := s.conclude(asked, word.Reply)
		if concluded = append(concluded, call); entry != nil {
			entries = append(entries, entry)
		}
	}
	// The log counts on the calls that are pending; a drain counts on what is done having been handed over.
	s.counters.pending.Add(-int64(len(concluded)))
	s.append(entries)
	for _, call := range concluded {
		s.done(call)
	}
	for _, word := range words {
		if word.Question == nil {
			continue
		}
		if call := lane.find(word.Number, true); call != nil {
			s.engines.answer(lane, call, *word.Question)
		}
	}
}

// conclude ends a call's time with the program. A panic on the way is a denial with a record, like any other failure.
func (s *Server) conclude(asked *Call, reply *Reply) (call *Call, entry *barrier.Entry) {
	call = asked
	if asked.instead != nil {
		call = asked.instead
	}
	said := Reply{}
	defer func() {
		if cause := recover(); cause != nil {
			s.panicked(call, said, cause)
			entry = nil
		}
	}()
	if reply != nil {
		said = *reply
	}
	fault.Point("after_program")
	return call, s.settled(call, asked, said, reply != nil && asked.answeredBy(said))
}

// settled is how the reply of whoever owns the answer gets out, and the record of whoever does not is kept.
func (s *Server) settled(call, asked *Call, reply Reply, replied bool) *barrier.Entry {
	switch {
	case !replied:
		s.counters.unrecorded.Add(1)
		s.void(reply)
		call.Claim.Commit()
		call.settle(call.refused(Internal))
		return nil
	case asked.Kind == Refusal:
		return s.keep(reply)
	case !call.Claim.Commit() && call.Claim.Expired():
		return s.outrun(call, reply)
	default:
		return s.commit(call, reply)
	}
}

// outrun is for a reply that came after the watchdog's. Its record is kept; without one, what was sent has none yet. To
// a caller that left nothing was sent.
func (s *Server) outrun(call *Call, reply Reply) *barrier.Entry {
	if len(reply.Record) == 0 && call.Kind == StreamMessage && !call.gone.Load() {
		s.record(call, DeadlineExceeded, nil)
	}
	return s.keep(reply)
}

// keep is the entry of a record whose answer is out already. An allow among them would be a lie.
func (s *Server) keep(reply Reply) *barrier.Entry {
	switch {
	case len(reply.Record) == 0:
		return nil
	case reply.Allow:
		s.counters.unrecorded.Add(1)
		s.void(reply)
		return nil
	default:
		return &barrier.Entry{Record: reply.Record, Sequence: reply.Sequence, Keep: true, Done: s.kept}
	}
}

// panicked answers and records a call whose way panicked, as whatever its caller has been told by now.
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
