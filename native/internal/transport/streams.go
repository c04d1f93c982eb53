package transport

import (
	"context"
	"encoding/json"
	"errors"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
)

// stream is one ext_proc stream. Its messages are judged one after another.
type stream struct {
	grpc.ServerStream
	id    uint64
	mutex sync.Mutex
	cut   chan []byte
	last  *Call
}

// process serves one ext_proc stream until either side ends it.
func (s *Server) process(_ any, wire grpc.ServerStream) error {
	st := &stream{ServerStream: wire, id: s.streamID.Add(1), cut: make(chan []byte, 1)}
	s.streams.Store(st.id, st)
	defer s.closeStream(st)
	if ended, err := s.ask(st, StreamOpen, describe(wire.Context())); ended {
		return err
	}
	messages := make(chan []byte)
	go st.receive(messages)
	for {
		select {
		case message, alive := <-messages:
			if !alive {
				return nil
			}
			if ended, err := s.ask(st, StreamMessage, message); ended {
				return err
			}
		case last := <-st.cut:
			if last != nil {
				return st.send(last)
			}
			return nil
		}
	}
}

// ask puts one message to the program and sends the answers. It tells whether the stream is over.
func (s *Server) ask(st *stream, kind Kind, message []byte) (ended bool, err error) {
	ctx, release := context.WithTimeoutCause(st.Context(), s.options.Deadline, errDeadline)
	defer release()
	call := newCall(kind, st.id, message, s.options.StreamFallback)
	st.last = call
	reply := s.exchange(ctx, call)
	for _, answer := range reply.Answers {
		if err := st.send(answer); err != nil {
			return true, err
		}
	}
	return reply.End, nil
}

// closeStream tells the program that the stream is gone, after whatever it still does for it.
func (s *Server) closeStream(st *stream) {
	s.streams.Delete(st.id)
	last := st.last
	s.calls.Add(1)
	s.counters.pending.Add(1)
	go func() {
		defer s.calls.Done()
		defer s.counters.pending.Add(-1)
		<-last.finished
		call := newCall(StreamClose, st.id, nil, s.options.StreamFallback)
		ctx, release := context.WithTimeoutCause(context.Background(), s.options.Deadline, errDeadline)
		defer release()
		s.exchange(ctx, call)
	}()
}

// Send puts a message on an open stream, beside the answers.
func (s *Server) Send(id uint64, message []byte) error {
	st, open := s.stream(id)
	if !open {
		return errNoStream
	}
	return st.send(message)
}

// CloseStream ends a stream from this side, with a last message if there is one.
func (s *Server) CloseStream(id uint64, last []byte) error {
	st, open := s.stream(id)
	if !open {
		return errNoStream
	}
	select {
	case st.cut <- last:
	default: // it is being cut already
	}
	return nil
}

var errNoStream = errors.New("no such stream")

func (s *Server) stream(id uint64) (*stream, bool) {
	found, open := s.streams.Load(id)
	if !open {
		return nil, false
	}
	return found.(*stream), true
}

// receive ends by itself when the stream does; the handler's return ends the stream.
func (st *stream) receive(messages chan<- []byte) {
	defer close(messages)
	for {
		message := &frame{}
		if st.RecvMsg(message) != nil {
			return
		}
		select {
		case messages <- message.bytes:
		case <-st.Context().Done():
			return
		}
	}
}

func (st *stream) send(message []byte) error {
	st.mutex.Lock()
	defer st.mutex.Unlock()
	return st.SendMsg(&frame{bytes: message})
}

// describe is what is known of a stream when it opens: its metadata and its peer.
func describe(ctx context.Context) []byte {
	headers, _ := metadata.FromIncomingContext(ctx)
	address := ""
	if caller, known := peer.FromContext(ctx); known {
		address = caller.Addr.String()
	}
	description, _ := json.Marshal(map[string]any{"metadata": headers, "peer": address})
	return description
}
