package transport

import "sync/atomic"

// Claim decides who answers a call: the program, by committing, or the watchdog, by letting it expire. One
// compare-and-swap settles it for good, so a call has one answer and one record that agree (contracts §8).
type Claim struct{ state atomic.Int32 }

// The states of a claim; the C side swaps the same values.
const (
	open int32 = iota
	committed
	expired
)

// Commit takes the answer for the program. False means that the deadline was first.
func (c *Claim) Commit() bool { return c.state.CompareAndSwap(open, committed) }

// Expire takes the answer for the watchdog. False means that the program was first.
func (c *Claim) Expire() bool { return c.state.CompareAndSwap(open, expired) }

// Expired tells whether the watchdog has answered.
func (c *Claim) Expired() bool { return c.state.Load() == expired }
