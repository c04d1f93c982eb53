package main

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"sync"
)

// handles gives Go values numbers that the other side can hold; a number that was let go is an error, never a crash.
type handles[T any] struct {
	mutex  sync.RWMutex
	last   uint64
	values map[uint64]T
}

func newHandles[T any]() *handles[T] { return &handles[T]{values: map[uint64]T{}} }

func (h *handles[T]) add(value T) uint64 {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	h.last++
	h.values[h.last] = value
	return h.last
}

func (h *handles[T]) find(number uint64) (T, error) {
	h.mutex.RLock()
	defer h.mutex.RUnlock()
	value, known := h.values[number]
	if !known {
		return value, fmt.Errorf("no open %T has this handle", value)
	}
	return value, nil
}

func (h *handles[T]) remove(number uint64) (T, error) {
	value, err := h.find(number)
	h.mutex.Lock()
	defer h.mutex.Unlock()
	delete(h.values, number)
	return value, err
}

func (h *handles[T]) removeAll(chosen func(T) bool) {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	maps.DeleteFunc(h.values, func(_ uint64, value T) bool { return chosen(value) })
}

func newReader(content []byte) io.Reader { return bytes.NewReader(content) }
