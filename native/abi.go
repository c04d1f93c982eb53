package main

/*
#include "abi.h"
*/
import "C"

import (
	"runtime"
	"runtime/debug"
	"time"

	"authz/native/internal/barrier"
	"authz/native/internal/engine"
	"authz/native/internal/fault"
	"authz/native/internal/transport"
)

var (
	pendings = newHandles[[]byte]()
	policies = newHandles[*engine.Policy]()
	queries  = newHandles[*engine.Query]()
	logs     = newHandles[*barrier.Log]()
	servers  = newHandles[*transport.Server]()
)

// AuthzAbiVersion tells which boundary this library speaks.
//
//export AuthzAbiVersion
func AuthzAbiVersion() C.uint32_t { return C.ABI_VERSION }

// AuthzTake hands over what did not fit into a result before, once.
//
//export AuthzTake
func AuthzTake(pending C.uint64_t, out *C.authz_result) {
	answer(out, func() ([]byte, error) { return pendings.remove(uint64(pending)) })
}

type limits struct {
	MaxProcs    int   `json:"max_procs"`
	GCPercent   int   `json:"gc_percent"`
	MemoryLimit int64 `json:"memory_limit_bytes"`
}

// AuthzConfigure sets the Go runtime's bounds and tells those in force. Zero leaves one as it is.
//
//export AuthzConfigure
func AuthzConfigure(options *C.uint8_t, size C.size_t, out *C.authz_result) {
	answer(out, func() ([]byte, error) {
		asked := limits{}
		if err := decode(view(options, size), &asked); err != nil {
			return nil, err
		}
		if asked.MaxProcs > 0 {
			runtime.GOMAXPROCS(asked.MaxProcs)
		}
		if asked.GCPercent > 0 {
			debug.SetGCPercent(asked.GCPercent)
		}
		if asked.MemoryLimit > 0 {
			debug.SetMemoryLimit(asked.MemoryLimit)
		}
		return describe(limits{MaxProcs: runtime.GOMAXPROCS(0), GCPercent: asked.GCPercent, MemoryLimit: debug.SetMemoryLimit(-1)}, nil)
	})
}

type openedPolicy struct {
	Handle uint64 `json:"handle"`
	*engine.Policy
}

// AuthzOpenPolicy loads a policy from the paths in its options, or from an archive.
//
//export AuthzOpenPolicy
func AuthzOpenPolicy(options *C.uint8_t, size C.size_t, archive *C.uint8_t, archiveSize C.size_t, out *C.authz_result) {
	answer(out, func() ([]byte, error) {
		asked := engine.Options{}
		if err := decode(view(options, size), &asked); err != nil {
			return nil, err
		}
		if archive != nil {
			asked.Archive = view(archive, archiveSize)
		}
		policy, err := engine.Open(asked)
		if err != nil {
			return nil, err
		}
		return describe(openedPolicy{policies.add(policy), policy}, nil)
	})
}

// AuthzClosePolicy lets go of a policy and its queries. Evaluations under way finish.
//
//export AuthzClosePolicy
func AuthzClosePolicy(handle C.uint64_t) { _, _ = policies.remove(uint64(handle)) }

// AuthzPrepare makes a policy's entrypoint ready to be asked.
//
//export AuthzPrepare
func AuthzPrepare(handle C.uint64_t, entrypoint *C.uint8_t, size C.size_t, out *C.authz_result) {
	answer(out, func() ([]byte, error) {
		policy, err := policies.find(uint64(handle))
		if err != nil {
			return nil, err
		}
		query, err := policy.Prepare(text(entrypoint, size))
		if err != nil {
			return nil, err
		}
		return describe(map[string]uint64{"handle": queries.add(query)}, nil)
	})
}

// AuthzEvaluate asks a query; undefined is a status of its own, never an empty answer.
//
//export AuthzEvaluate
func AuthzEvaluate(handle C.uint64_t, input *C.uint8_t, size C.size_t, deadline C.int64_t, out *C.authz_result) {
	answer(out, func() ([]byte, error) {
		query, err := queries.find(uint64(handle))
		if err != nil {
			return nil, err
		}
		fault.Point("engine")
		return query.Evaluate(view(input, size), time.Duration(deadline))
	})
}

// AuthzArmFault makes a named place panic once. For tests.
//
//export AuthzArmFault
func AuthzArmFault(place *C.uint8_t, size C.size_t) { fault.Arm(text(place, size)) }
