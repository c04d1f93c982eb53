package main

/*
#include "abi.h"
*/
import "C"

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"unsafe"

	"authz/native/internal/engine"
)

const (
	statusOK        = 0
	statusUndefined = 1
	statusError     = 2
)

// write leaves content in the caller's buffer, or keeps it for AuthzTake where that is too small.
func write(out *C.authz_result, status int, content []byte) {
	out.status, out.size, out.pending = C.int32_t(status), C.size_t(len(content)), 0
	if len(content) > int(out.capacity) {
		out.pending = C.uint64_t(pendings.add(content))
		return
	}
	copy(unsafe.Slice((*byte)(unsafe.Pointer(out.data)), len(content)), content)
}

// answer runs one export's work. Whatever goes wrong in it, a panic included, becomes an error that the caller reads:
// a panic that crossed the boundary would take the whole process with it.
func answer(out *C.authz_result, work func() ([]byte, error)) {
	defer func() {
		if cause := recover(); cause != nil {
			write(out, statusError, panicked(cause))
		}
	}()
	status, content := outcome(work())
	write(out, status, content)
}

// outcome is how an answer is told. Nil is undefined, never an empty answer.
func outcome(content []byte, err error) (status int, told []byte) {
	switch {
	case err != nil:
		return statusError, explain(err)
	case content == nil:
		return statusUndefined, nil
	default:
		return statusOK, content
	}
}

func panicked(cause any) []byte {
	slog.Error("panic in the library", "cause", cause, "stack", string(debug.Stack()))
	return explain(&engine.Error{Code: "panic", Message: "the library failed"})
}

func explain(err error) []byte {
	coded := &engine.Error{}
	if !errors.As(err, &coded) {
		coded = &engine.Error{Code: "failed", Message: err.Error()}
	}
	content, _ := json.Marshal(coded)
	return content
}

// describe answers with a value as JSON.
func describe(value any, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	return json.Marshal(value)
}

func view(content *C.uint8_t, size C.size_t) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(content)), int(size))
}

func text(content *C.uint8_t, size C.size_t) string {
	return C.GoStringN((*C.char)(unsafe.Pointer(content)), C.int(size))
}

// decode reads an export's options; an unknown key means that the two sides disagree.
func decode(content []byte, into any) error {
	decoder := json.NewDecoder(newReader(content))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return fmt.Errorf("options: %w", err)
	}
	return nil
}
