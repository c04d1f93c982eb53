package barrier

// queue is a heap of entries by sequence number (container/heap).
type queue []*Entry

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].Sequence < q[j].Sequence }
func (q queue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }

// Push implements heap.Interface.
func (q *queue) Push(entry any) { *q = append(*q, entry.(*Entry)) }

// Pop implements heap.Interface.
func (q *queue) Pop() any {
	last := len(*q) - 1
	entry := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	return entry
}

// ring keeps the newest records that found no disk, up to a number of bytes.
type ring struct {
	records [][]byte
	bytes   int
	limit   int
}

// keep adds a record and tells how many older ones it pushed out.
func (r *ring) keep(record []byte) (lost int) {
	r.records = append(r.records, record)
	r.bytes += len(record)
	for r.bytes > r.limit && len(r.records) > 0 {
		r.bytes -= len(r.records[0])
		r.records = r.records[1:]
		lost++
	}
	return lost
}

func (r *ring) clear() { r.records, r.bytes = nil, 0 }
