// Package fault makes named places panic on demand, so that tests can prove what happens then.
//
// It must never fire unless armed, and nothing in the shipped programs arms it.
package fault

import "sync/atomic"

var armed atomic.Pointer[string]

// Arm makes the next pass through the named place panic, once. An empty name disarms.
func Arm(place string) {
	if place == "" {
		armed.Store(nil)
		return
	}
	armed.Store(&place)
}

// Point is a place that can be armed.
func Point(place string) {
	if name := armed.Load(); name != nil && *name == place && armed.CompareAndSwap(name, nil) {
		panic("fault injected at " + place)
	}
}
