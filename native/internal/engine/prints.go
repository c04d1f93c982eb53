package engine

import (
	"sync"

	"github.com/open-policy-agent/opa/v1/topdown/print"
)

// maxPrints bounds what `print()` may keep in memory until somebody reads it.
const maxPrints = 1024

// Print is one line that a policy printed.
type Print struct {
	Location *Location `json:"location,omitempty"`
	Text     string    `json:"text"`
}

// prints is a bounded buffer; what does not fit is counted, since a policy's chatter must not stop decisions.
type prints struct {
	mutex   sync.Mutex
	lines   []Print
	dropped int
}

var printed = &prints{}

// Print implements OPA's hook.
func (p *prints) Print(at print.Context, text string) error {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if len(p.lines) == maxPrints {
		p.dropped++
		return nil
	}
	p.lines = append(p.lines, Print{Location: locate(at.Location), Text: text})
	return nil
}

func (p *prints) take() ([]Print, int) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	lines, dropped := append([]Print{}, p.lines...), p.dropped
	p.lines, p.dropped = nil, 0
	return lines, dropped
}

// TakePrints empties the buffer of `print()` lines and tells how many did not fit.
func TakePrints() ([]Print, int) { return printed.take() }
