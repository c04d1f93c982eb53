package transport

import "sync"

// idleEngines is how many goroutines wait for evaluations; more are made while more are needed.
const idleEngines = 64

// engines runs evaluations on goroutines that stay: a new one would grow its stack, copy by copy, for each evaluation.
// The one that was busy last is the next: its stack is the one in the processor's cache.
type engines struct {
	mutex  sync.Mutex
	idle   []chan func()
	closed bool
}

// run does the work on a goroutine of its own and returns at once.
func (e *engines) run(work func()) {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	if last := len(e.idle) - 1; last >= 0 {
		e.idle[last] <- work
		e.idle = e.idle[:last]
		return
	}
	next := make(chan func(), 1)
	next <- work
	go e.loop(next)
}

func (e *engines) loop(next chan func()) {
	for work := range next {
		work()
		if !e.rest(next) {
			return
		}
	}
}

func (e *engines) rest(next chan func()) bool {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	if e.closed || len(e.idle) >= idleEngines {
		return false
	}
	e.idle = append(e.idle, next)
	return true
}

// close ends the goroutines that wait.
func (e *engines) close() {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	for _, next := range e.idle {
		close(next)
	}
	e.idle, e.closed = nil, true
}
