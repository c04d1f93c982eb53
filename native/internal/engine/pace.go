package engine

import (
	"runtime"
	"runtime/debug"
)

const (
	// largeBytes of policy files may come to a heap that must not grow to several times itself.
	largeBytes = 4 << 20
	// largePercent is how far such a heap may grow between two collections.
	largePercent = 150
)

// pace decides when memory is collected: as seldom as was asked for while policies are small, because collecting costs
// what lives and not what died; sooner where they hold data by the megabyte, of which rules may read much as a whole; and
// at once when such a policy has gone, so that two revisions are held and never ten.
type pace struct {
	percent int
	bytes   int64
}

// add counts the bytes of a policy that was opened, or takes off those of one that has gone.
func (p *pace) add(bytes int64) {
	was := p.inForce()
	p.bytes += bytes
	if p.inForce() != was {
		p.set()
	}
	if -bytes > largeBytes {
		go runtime.GC()
	}
}

func (p *pace) inForce() int {
	if p.bytes > largeBytes {
		return min(p.percent, largePercent)
	}
	return p.percent
}

func (p *pace) set() { debug.SetGCPercent(p.inForce()) }
