package transport

import (
	"sync"
	"time"
)

const (
	// patience is how long a thread may be with the program before another is let in beside it: a call that takes long
	// holds up only itself. Until then more threads would only contend for the interpreter.
	patience = 20 * time.Millisecond
	// batchEvents is how many events a thread takes at once: enough to share a crossing, few enough that the first
	// answer does not wait for long behind the last.
	batchEvents = 16
	// batchBytes ends a batch early, so that it fits the buffer that the program reads it from.
	batchBytes = 48 << 10
)

// Seat is one thread of the program, as its lane knows it. What is in it is the lane's.
type Seat struct {
	lane *lane
	wake chan struct{}
	// away says that the thread is with the program, since when, and for the how manieth time.
	away  bool
	since time.Time
	turn  uint64
	// relieved says that it was away for too long, so that another thread was let in; stuck, that a call of this turn
	// even passed its deadline.
	relieved, stuck bool
}

// lane is where calls wait for threads of the program, which come by themselves and take what waits. So many threads
// are with the program at once as are allowed, first the one that came back last: it is the warm one.
type lane struct {
	counters *counters
	spare    int

	mutex   sync.Mutex
	waiting []Event
	held    map[uint64]*Call
	last    uint64
	seats   []*Seat
	idle    []*Seat
	away    int
	allowed int
	watched bool
	closed  bool
}

// newLane has a seat for each thread that is allowed at once, and spare ones for those that may be relieved.
func newLane(threads, spare int, counters *counters) *lane {
	l := &lane{counters: counters, spare: spare, held: map[uint64]*Call{}, allowed: threads}
	for range threads + spare {
		l.seats = append(l.seats, &Seat{lane: l, wake: make(chan struct{}, 1)})
	}
	return l
}

func (l *lane) seat(number int) *Seat {
	if number < 0 || number >= len(l.seats) {
		return nil
	}
	return l.seats[number]
}

// push adds what a thread is to be told.
func (l *lane) push(event Event) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.waiting = append(l.waiting, event)
	l.rouse()
	l.watch()
}

// rouse sends a thread in if there is something for it and room.
func (l *lane) rouse() {
	if len(l.waiting) > 0 && l.away < l.allowed {
		l.admit()
	}
}

func (l *lane) admit() {
	if len(l.idle) == 0 {
		return
	}
	seat := l.idle[len(l.idle)-1]
	l.idle = l.idle[:len(l.idle)-1]
	l.leave(seat)
	seat.wake <- struct{}{}
}

// leave counts a thread as with the program.
func (l *lane) leave(seat *Seat) {
	l.away++
	seat.away, seat.since = true, time.Now()
	seat.turn++
}

// watch sees to it that threads which stay away are relieved, as long as there are any.
func (l *lane) watch() {
	if l.away > 0 && !l.watched {
		l.watched = true
		time.AfterFunc(patience, l.relieve)
	}
}

// relieve lets another thread in for each that is away for too long, while there are spare ones.
func (l *lane) relieve() {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	now := time.Now()
	for _, seat := range l.seats {
		if seat.away && !seat.relieved && l.spare > 0 && now.Sub(seat.since) >= patience {
			seat.relieved = true
			l.spare--
			l.allowed++
			l.admit()
		}
	}
	l.watched = false
	l.watch()
}

// back counts a thread as with us again, and tells whether it had been stuck.
func (l *lane) back(seat *Seat) bool {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	wasStuck := seat.stuck
	if seat.away {
		l.away--
	}
	if seat.stuck {
		l.counters.stuck.Add(-1)
	}
	if seat.relieved {
		l.spare++
		l.allowed--
	}
	seat.away, seat.stuck, seat.relieved = false, false, false
	return wasStuck
}

// next waits until there is something for this thread, and gives it. A batch may be empty: then the thread relieves
// another, and goes on with what that one left. False means that nothing will come any more.
func (l *lane) next(seat *Seat) (batch []Event, open bool) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if len(l.waiting) > 0 && l.away < l.allowed && !l.closed {
		l.leave(seat)
	} else if !l.closed {
		l.idle = append(l.idle, seat)
		l.mutex.Unlock()
		<-seat.wake
		l.mutex.Lock()
	}
	if !seat.away {
		return nil, false
	}
	batch = l.take(seat)
	l.rouse()
	l.watch()
	return batch, true
}

// take gives the first events to a thread.
func (l *lane) take(seat *Seat) []Event {
	count, size := 0, 0
	for count < min(len(l.waiting), batchEvents) {
		if size += l.waiting[count].size(); count > 0 && size > batchBytes {
			break
		}
		count++
	}
	batch := append([]Event(nil), l.waiting[:count]...)
	clear(l.waiting[:count])
	if l.waiting = l.waiting[count:]; len(l.waiting) == 0 {
		l.waiting = l.waiting[:0:0]
	}
	for _, event := range batch {
		event.Call.seat, event.Call.turn = seat, seat.turn
	}
	return batch
}

// hold gives a call the number by which the program speaks of it.
func (l *lane) hold(call *Call) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.last++
	call.Number = l.last
	l.held[call.Number] = call
	call.pinned.Pin(call)
}

// find takes the call of this number back from the thread that had it, and forgets the number unless the call goes on.
// Nil if no call has it.
func (l *lane) find(number uint64, goesOn bool) *Call {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	call := l.held[number]
	if call == nil {
		return nil
	}
	call.seat = nil
	if !goesOn {
		delete(l.held, number)
		call.pinned.Unpin()
	}
	return call
}

// overdue is told of a call that passed its deadline. It tells whether the thread that has it just now was found stuck
// by this.
func (l *lane) overdue(call *Call) bool {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	seat := call.seat
	if seat == nil || !seat.away || seat.turn != call.turn || seat.stuck {
		return false
	}
	seat.stuck = true
	l.counters.stuck.Add(1)
	return true
}

// close sends every thread home.
func (l *lane) close() {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.closed = true
	for _, seat := range l.idle {
		seat.wake <- struct{}{}
	}
	l.idle = nil
}
