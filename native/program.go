package main

/*
#include <stdlib.h>
#include "abi.h"
*/
import "C"

import (
	"encoding/binary"
	"runtime"
	"unsafe"

	"authz/native/internal/transport"
)

// python is the program behind the callback.
type python struct{ callback C.authz_callback }

// NewWorker implements transport.Program.
func (p python) NewWorker() transport.Worker {
	return &worker{callback: p.callback, call: (*C.authz_call)(C.calloc(1, C.sizeof_authz_call))}
}

// worker owns the C memory that one thread's replies are written into.
type worker struct {
	callback C.authz_callback
	call     *C.authz_call
}

// Invoke implements transport.Worker. What Python may read is pinned for the time of the call; what Python wrote is
// copied before it returns, so that neither side keeps the other's memory.
func (w *worker) Invoke(call *transport.Call) (transport.Reply, bool) {
	var pinned runtime.Pinner
	defer pinned.Unpin()
	at := func(content []byte) (*C.uint8_t, C.size_t) {
		if len(content) == 0 {
			return nil, 0
		}
		pinned.Pin(&content[0])
		return (*C.uint8_t)(&content[0]), C.size_t(len(content))
	}
	c := w.call
	*c = C.authz_call{kind: C.uint32_t(call.Kind), stream: C.uint64_t(call.Stream), buffer: c.buffer, capacity: c.capacity}
	c.request, c.request_size = at(call.Request)
	c.reason, c.reason_size = at([]byte(call.Reason))
	c.record, c.record_size = at(call.Record)
	pinned.Pin(&call.Claim)
	c.claim = (*C.int32_t)(unsafe.Pointer(&call.Claim))
	C.AuthzInvoke(w.callback, c)
	c.claim = nil
	if c.replied == 0 {
		return transport.Reply{}, false
	}
	return w.reply()
}

func (w *worker) reply() (transport.Reply, bool) {
	c := w.call
	written := C.GoBytes(unsafe.Pointer(c.buffer), C.int(c.answers_size+c.reply_record_size))
	answers, whole := unframe(written[:c.answers_size])
	return transport.Reply{
		Answers:  answers,
		Record:   written[c.answers_size:],
		Sequence: uint64(c.sequence),
		Allow:    c.allow != 0,
		End:      c.end != 0,
	}, whole
}

func unframe(framed []byte) (answers [][]byte, whole bool) {
	for len(framed) >= 4 {
		size := binary.LittleEndian.Uint32(framed)
		if uint64(size) > uint64(len(framed)-4) {
			return nil, false
		}
		answers = append(answers, framed[4:4+size])
		framed = framed[4+size:]
	}
	return answers, len(framed) == 0
}

// Close implements transport.Worker.
func (w *worker) Close() {
	C.free(unsafe.Pointer(w.call.buffer))
	C.free(unsafe.Pointer(w.call))
}
