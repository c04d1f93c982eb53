package transport

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
)

func openStream(t *testing.T, s *service) grpc.ClientStream {
	t.Helper()
	ctx, release := context.WithTimeout(context.Background(), 5*time.Second)
	t.Cleanup(release)
	opened, err := s.connection.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/"+processor+"/Process")
	if err != nil {
		t.Fatal(err)
	}
	return opened
}

func receive(s grpc.ClientStream) string {
	answer := &frame{}
	if err := s.RecvMsg(answer); err != nil {
		return err.Error()
	}
	return string(answer.bytes)
}

func talk(s *script, call *Call) (Reply, bool) {
	message := string(call.Request)
	switch {
	case call.Kind != StreamMessage:
		return Reply{}, true
	case message == "record":
		return allow(s, call)
	case message == "stuck":
		time.Sleep(100 * time.Millisecond)
		return Reply{}, true
	}
	return Reply{Answers: [][]byte{[]byte("1:" + message), []byte("2:" + message)}, End: message == "end"}, true
}

func TestAStreamIsOpenedAskedInOrderAndClosed(t *testing.T) {
	s := start(t, talk, nil)
	wire := openStream(t, s)
	for _, message := range []string{"a", "record", "end"} {
		if err := wire.SendMsg(&frame{bytes: []byte(message)}); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"1:a", "2:a", "allow:record", "1:end", "2:end", io.EOF.Error()} {
		expect(t, "answer", receive(wire), want)
	}
	expect(t, "records", s.records(t), "allow:record")
	events := s.told()
	expect(t, "first", strings.HasPrefix(events[0], "1 1 {"), true)
	expect(t, "rest", events[1:], []string{"2 1 a", "2 1 record", "2 1 end", "3 1 "})
}

func TestAStuckStreamMessageEndsTheStreamWithADenial(t *testing.T) {
	s := start(t, talk, nil)
	wire := openStream(t, s)
	_ = wire.SendMsg(&frame{bytes: []byte("stuck")})
	expect(t, "answer", receive(wire), "library: SYS_DEADLINE")
	expect(t, "end", receive(wire), io.EOF.Error())
}

func TestAStreamIsCutFromThisSide(t *testing.T) {
	s := start(t, talk, nil)
	wire := openStream(t, s)
	_ = wire.SendMsg(&frame{bytes: []byte("a")})
	expect(t, "answers", receive(wire)+receive(wire), "1:a2:a")
	expect(t, "sent", s.Send(1, []byte("between")), nil)
	expect(t, "cut", s.CloseStream(1, []byte("last")), nil)
	expect(t, "answers", receive(wire)+receive(wire), "betweenlast")
	expect(t, "end", receive(wire), io.EOF.Error())
	for len(s.told()) < 3 {
		time.Sleep(time.Millisecond)
	}
	expect(t, "a closed stream", s.Send(1, nil), errNoStream)
}

func TestTheRecordOfAStuckStreamMessageIsAskedForOnce(t *testing.T) {
	s := start(t, talk, nil)
	wire := openStream(t, s)
	_ = wire.SendMsg(&frame{bytes: []byte("stuck")})
	expect(t, "answer", receive(wire), "library: SYS_DEADLINE")
	for len(s.told()) < 4 {
		time.Sleep(time.Millisecond)
	}
	expect(t, "refusals", s.refusals(), "SYS_DEADLINE false")
}

func TestNoRecordIsAskedForWhoLeavesDuringAMessage(t *testing.T) {
	s := start(t, talk, nil)
	ctx, leave := context.WithTimeout(context.Background(), 5*time.Second)
	defer leave()
	wire, err := s.connection.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/"+processor+"/Process")
	if err != nil {
		t.Fatal(err)
	}
	_ = wire.SendMsg(&frame{bytes: []byte("stuck")})
	for len(s.told()) < 2 {
		time.Sleep(time.Millisecond)
	}
	leave()
	for len(s.told()) < 3 {
		time.Sleep(time.Millisecond)
	}
	expect(t, "refusals", s.refusals(), "")
	expect(t, "last", s.told()[2], "3 1 ")
}
