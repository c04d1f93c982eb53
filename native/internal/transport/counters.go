package transport

import "sync/atomic"

type counters struct {
	calls, expired, late, auditRefused, cancelled, shed, incomplete, panics, unrecorded atomic.Uint64
	connectionsRefused, peersRefused                                                    atomic.Uint64
	pending, stuck, connections                                                         atomic.Int64
}

// Stats is a snapshot of a server's counters.
type Stats struct {
	Calls              uint64 `json:"calls"`
	Expired            uint64 `json:"expired"`
	Late               uint64 `json:"late"`
	AuditRefused       uint64 `json:"audit_refused"`
	Cancelled          uint64 `json:"cancelled"`
	Shed               uint64 `json:"shed"`
	Incomplete         uint64 `json:"incomplete"`
	Panics             uint64 `json:"panics"`
	Unrecorded         uint64 `json:"unrecorded"`
	ConnectionsRefused uint64 `json:"connections_refused"`
	PeersRefused       uint64 `json:"peers_refused"`
	Pending            int64  `json:"pending"`
	Stuck              int64  `json:"stuck"`
	Connections        int64  `json:"connections"`
}

// Stats copies the counters.
func (s *Server) Stats() Stats {
	c := &s.counters
	return Stats{
		Calls:              c.calls.Load(),
		Expired:            c.expired.Load(),
		Late:               c.late.Load(),
		AuditRefused:       c.auditRefused.Load(),
		Cancelled:          c.cancelled.Load(),
		Shed:               c.shed.Load(),
		Incomplete:         c.incomplete.Load(),
		Panics:             c.panics.Load(),
		Unrecorded:         c.unrecorded.Load(),
		ConnectionsRefused: c.connectionsRefused.Load(),
		PeersRefused:       c.peersRefused.Load(),
		Pending:            c.pending.Load(),
		Stuck:              c.stuck.Load(),
		Connections:        c.connections.Load(),
	}
}
