package transport

import (
	"runtime"
	"sync/atomic"
)

// Kind says what a call asks of the program.
type Kind uint32

// What the program can be asked. The C side uses the same values.
const (
	Check Kind = iota
	StreamOpen
	StreamMessage
	StreamClose
	// Refusal asks for the record of an answer that the transport gave by itself.
	Refusal
)

// The reasons the transport refuses with by itself; each has its bytes in Options.
const (
	Internal         = "SYS_INTERNAL"
	DeadlineExceeded = "SYS_DEADLINE"
	AuditUnavailable = "AUDIT_UNAVAILABLE"
)

// Call is one question to the program and its way to an answer.
type Call struct {
	Kind    Kind
	Stream  uint64
	Request []byte
	// Reason and Record belong to a Refusal: why, and the record that is in the log already although the answer was
	// changed afterwards.
	Reason string
	Record []byte
	Claim  Claim
	// Number is what the program calls it by, from when it was told of it.
	Number uint64

	fallback map[string][]byte
	settled  chan Reply
	outcome  Claim
	gone     atomic.Bool
	finished chan struct{}
	// pinned keeps the claim where the program was told that it is.
	pinned runtime.Pinner
	// instead is the call whose place a refusal takes, because it expired before its turn.
	instead *Call
	// seat has the call just now, since its turn of this number. The lane's.
	seat *Seat
	turn uint64
}

// Reply is what the program says. Without a Record nothing needs to be durable before the answers go out.
type Reply struct {
	Answers  [][]byte
	Record   []byte
	Sequence uint64
	Allow    bool
	// End closes the stream after the answers.
	End bool
}

func newCall(kind Kind, stream uint64, request []byte, fallback map[string][]byte) *Call {
	return &Call{
		Kind:     kind,
		Stream:   stream,
		Request:  request,
		fallback: fallback,
		settled:  make(chan Reply, 1),
		finished: make(chan struct{}),
	}
}

// refusal is the same call, asking only for its record. The answer is out already.
func (c *Call) refusal(reason string, record []byte) *Call {
	return &Call{Kind: Refusal, Stream: c.Stream, Request: c.Request, Reason: reason, Record: record, finished: c.finished}
}

// answeredBy tells whether a reply is one to this call. An empty answer is none: as a CheckResponse it would allow (A2).
func (c *Call) answeredBy(reply Reply) bool {
	for _, answer := range reply.Answers {
		if len(answer) == 0 {
			return false
		}
	}
	return c.Kind != Check || len(reply.Answers) == 1
}

// settle hands the reply to whoever waits; false if nobody does any more.
func (c *Call) settle(reply Reply) bool {
	if !c.outcome.Commit() {
		return false
	}
	c.settled <- reply
	return true
}

// refused is the reply that the transport gives by itself. It ends a stream: what follows was never judged.
func (c *Call) refused(reason string) Reply {
	return Reply{Answers: [][]byte{c.fallback[reason]}, End: true}
}
