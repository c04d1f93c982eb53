package main

/*
#include "abi.h"
*/
import "C"

import (
	"fmt"
	"log/slog"
	"time"
	"unsafe"

	"authz/native/internal/barrier"
	"authz/native/internal/fault"
	"authz/native/internal/transport"
)

// AuthzOpenLog opens a directory of records for writing.
//
//export AuthzOpenLog
func AuthzOpenLog(options *C.uint8_t, size C.size_t, out *C.authz_result) {
	answer(out, func() ([]byte, error) {
		asked := barrier.Options{}
		if err := decode(view(options, size), &asked); err != nil {
			return nil, err
		}
		log, err := barrier.Open(asked)
		if err != nil {
			return nil, err
		}
		return describe(map[string]uint64{"handle": logs.add(log)}, nil)
	})
}

// AuthzAppend writes one record and returns once its fate is known.
//
//export AuthzAppend
func AuthzAppend(handle C.uint64_t, record *C.uint8_t, size C.size_t, sequence C.uint64_t, out *C.authz_result) {
	answer(out, func() ([]byte, error) {
		log, err := logs.find(uint64(handle))
		if err != nil {
			return nil, err
		}
		return []byte{}, log.Append([]byte(text(record, size)), uint64(sequence))
	})
}

// AuthzVoid says that a number will have no record.
//
//export AuthzVoid
func AuthzVoid(handle C.uint64_t, sequence C.uint64_t) {
	if log, err := logs.find(uint64(handle)); err == nil {
		log.Void(uint64(sequence))
	}
}

// AuthzLogStats tells a log's counters.
//
//export AuthzLogStats
func AuthzLogStats(handle C.uint64_t, out *C.authz_result) {
	answer(out, func() ([]byte, error) {
		log, err := logs.find(uint64(handle))
		if err != nil {
			return nil, err
		}
		return describe(log.Stats(), nil)
	})
}

// AuthzCloseLog writes what waits and closes the log.
//
//export AuthzCloseLog
func AuthzCloseLog(handle C.uint64_t) {
	if log, err := logs.remove(uint64(handle)); err == nil {
		log.Close()
	}
}

// AuthzServe listens. The log may be 0 if no reply ever has a record. The program sends as many threads as there are seats.
//
//export AuthzServe
func AuthzServe(options *C.uint8_t, size C.size_t, log C.uint64_t, out *C.authz_result) {
	answer(out, func() ([]byte, error) {
		asked := transport.Options{}
		if err := decode(view(options, size), &asked); err != nil {
			return nil, err
		}
		records, err := logs.find(uint64(log))
		if err != nil && log != 0 {
			return nil, err
		}
		server, err := transport.Serve(asked, evaluate, records)
		if err != nil {
			return nil, err
		}
		opened := map[string]any{"handle": servers.add(server), "address": server.Address(), "seats": server.Seats()}
		return describe(opened, nil)
	})
}

// AuthzTurn is one turn of the program's thread on this seat: its words in, the next events out. It waits for them;
// undefined means that there will be none any more.
//
//export AuthzTurn
func AuthzTurn(handle C.uint64_t, seat C.uint32_t, words *C.uint8_t, size C.size_t, out *C.authz_result) {
	on(handle, out, func(server *transport.Server) ([]byte, error) {
		taken := server.Seat(int(seat))
		if taken == nil {
			return nil, fmt.Errorf("there is no seat %d", seat)
		}
		// Copied once for all of them: what is said outlives the turn.
		said, err := readWords(C.GoBytes(unsafe.Pointer(words), C.int(size)))
		if err != nil {
			slog.Error("a turn is cut short", "cause", err)
		}
		batch, open := server.Turn(taken, said)
		if !open {
			return nil, nil
		}
		content := make([]byte, 0, 4096)
		for _, event := range batch {
			content = appendEvent(content, event)
		}
		return content, nil
	})
}

// evaluate is the engine behind a server's questions.
func evaluate(asked transport.Question) (result transport.Result) {
	defer func() {
		if cause := recover(); cause != nil {
			result = transport.Result{Status: statusError, Content: panicked(cause)}
		}
	}()
	found, err := queries.find(asked.Query)
	if err != nil {
		return transport.Result{Status: statusError, Content: explain(err)}
	}
	fault.Point("engine")
	status, content := outcome(found.Evaluate(asked.Input, asked.Deadline))
	return transport.Result{Status: status, Content: content}
}

// on runs work on an open server.
func on(handle C.uint64_t, out *C.authz_result, work func(*transport.Server) ([]byte, error)) {
	answer(out, func() ([]byte, error) {
		server, err := servers.find(uint64(handle))
		if err != nil {
			return nil, err
		}
		return work(server)
	})
}

// AuthzSetServing is the program's word on whether it can decide.
//
//export AuthzSetServing
func AuthzSetServing(handle C.uint64_t, serving C.int32_t, out *C.authz_result) {
	on(handle, out, func(server *transport.Server) ([]byte, error) {
		server.SetServing(serving != 0)
		return []byte{}, nil
	})
}

// AuthzDrain ends a server; it answers whether the program was told of every call within the grace.
//
//export AuthzDrain
func AuthzDrain(handle C.uint64_t, grace C.int64_t, out *C.authz_result) {
	on(handle, out, func(server *transport.Server) ([]byte, error) {
		return describe(server.Drain(time.Duration(grace)), nil)
	})
}

// AuthzServerStats tells a server's counters.
//
//export AuthzServerStats
func AuthzServerStats(handle C.uint64_t, out *C.authz_result) {
	on(handle, out, func(server *transport.Server) ([]byte, error) { return describe(server.Stats(), nil) })
}

// AuthzSend puts a message on an open stream.
//
//export AuthzSend
func AuthzSend(handle C.uint64_t, stream C.uint64_t, message *C.uint8_t, size C.size_t, out *C.authz_result) {
	on(handle, out, func(server *transport.Server) ([]byte, error) {
		return []byte{}, server.Send(uint64(stream), []byte(text(message, size)))
	})
}

// AuthzCloseStream ends a stream from this side, after a last message if one is given.
//
//export AuthzCloseStream
func AuthzCloseStream(handle C.uint64_t, stream C.uint64_t, last *C.uint8_t, size C.size_t, out *C.authz_result) {
	on(handle, out, func(server *transport.Server) ([]byte, error) {
		if last == nil {
			return []byte{}, server.CloseStream(uint64(stream), nil)
		}
		return []byte{}, server.CloseStream(uint64(stream), []byte(text(last, size)))
	})
}
