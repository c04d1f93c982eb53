package transport

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	// idleEngines is how many goroutines wait for evaluations; more are made while more are needed.
	idleEngines = 64
	// quickBytes is how long an input may be whose evaluation is likely to be quick.
	quickBytes = 16 << 10
	// slow is an evaluation that others should not have had to wait for, and wary how long after one none has to.
	slow = 2 * time.Millisecond
	wary = time.Second
)

// Engine answers questions, side by side. It must not panic.
type Engine func(Question) Result

// engines is where questions are answered. A usual evaluation is shorter than handing it to another thread and back, so
// it runs on the thread that asks. One that may be slow runs on a goroutine, so that no other call waits for it.
type engines struct {
	engine Engine
	// wary is until when evaluations are not trusted to be quick, in Unix nanoseconds.
	wary atomic.Int64

	mutex  sync.Mutex
	idle   []chan func()
	closed bool
}

// answer sees to it that the lane is told the result.
func (e *engines) answer(lane *lane, call *Call, question Question) {
	evaluate := func() {
		began := time.Now()
		result := e.engine(question)
		if ended := time.Now(); ended.Sub(began) > slow {
			e.wary.Store(ended.Add(wary).UnixNano())
		}
		lane.push(Event{call, &result})
	}
	if len(question.Input) <= quickBytes && time.Now().UnixNano() > e.wary.Load() {
		evaluate()
		return
	}
	e.run(evaluate)
}

// run does the work on a goroutine and returns at once. Goroutines stay: a new one would grow its stack, copy by copy,
// for each evaluation. The one that was busy last is the next: its stack is the one in the processor's cache.
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
