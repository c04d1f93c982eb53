package main

/*
#include "abi.h"
*/
import "C"

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/version"

	"authz/native/internal/barrier"
	"authz/native/internal/engine"
	"authz/native/internal/fault"
	"authz/native/internal/transport"
)

var (
	pendings = newHandles[[]byte]()
	compiled = engine.NewCache()
	policies = newHandles[*engine.Policy]()
	queries  = newHandles[query]()
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
	MaxProcs       int   `json:"max_procs"`
	ProgramThreads int   `json:"program_threads,omitempty"`
	GCPercent      int   `json:"gc_percent"`
	MemoryLimit    int64 `json:"memory_limit_bytes"`
}

// processors is what the environment and the machine give the runtime.
var processors = runtime.GOMAXPROCS(0)

// AuthzConfigure sets the Go runtime's bounds and tells those in force. Zero leaves one as it is. A thread
// of the program that left the library holds one of the runtime's processors until that is taken away from it, again and
// again: so each that is there most of the time is given one.
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
		if asked.ProgramThreads > 0 {
			runtime.GOMAXPROCS(processors + asked.ProgramThreads)
		}
		if asked.GCPercent > 0 {
			compiled.Pace(asked.GCPercent)
		}
		if asked.MemoryLimit > 0 {
			debug.SetMemoryLimit(asked.MemoryLimit)
		}
		return describe(limits{MaxProcs: runtime.GOMAXPROCS(0), GCPercent: asked.GCPercent, MemoryLimit: debug.SetMemoryLimit(-1)}, nil)
	})
}

// query is prepared for one handle of a policy, and goes with it.
type query struct {
	*engine.Query
	policy uint64
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
		policy, err := compiled.Open(asked)
		if err != nil {
			return nil, err
		}
		return describe(openedPolicy{policies.add(policy), policy}, nil)
	})
}

// AuthzClosePolicy lets go of a policy and its queries. Evaluations under way finish.
//
//export AuthzClosePolicy
func AuthzClosePolicy(handle C.uint64_t) {
	policy, err := policies.remove(uint64(handle))
	if err != nil {
		return
	}
	queries.removeAll(func(asked query) bool { return asked.policy == uint64(handle) })
	compiled.Close(policy)
}

// AuthzPrepare makes a policy's entrypoint ready to be asked.
//
//export AuthzPrepare
func AuthzPrepare(handle C.uint64_t, entrypoint *C.uint8_t, size C.size_t, out *C.authz_result) {
	answer(out, func() ([]byte, error) {
		policy, err := policies.find(uint64(handle))
		if err != nil {
			return nil, err
		}
		prepared, err := policy.Prepare(text(entrypoint, size))
		if err != nil {
			return nil, err
		}
		return describe(map[string]uint64{"handle": queries.add(query{prepared, uint64(handle)})}, nil)
	})
}

// AuthzEvaluate asks a query; undefined is a status of its own, never an empty answer.
//
//export AuthzEvaluate
func AuthzEvaluate(handle C.uint64_t, input *C.uint8_t, size C.size_t, deadline C.int64_t, out *C.authz_result) {
	answer(out, func() ([]byte, error) {
		asked, err := queries.find(uint64(handle))
		if err != nil {
			return nil, err
		}
		fault.Point("engine")
		return asked.Evaluate(view(input, size), time.Duration(deadline))
	})
}

// AuthzEvaluateUnknown asks a query about an input in which the values at some places, paths as JSON, are not known.
//
//export AuthzEvaluateUnknown
func AuthzEvaluateUnknown(
	handle C.uint64_t, input *C.uint8_t, size C.size_t, unknown *C.uint8_t, unknownSize C.size_t,
	deadline C.int64_t, out *C.authz_result,
) {
	answer(out, func() ([]byte, error) {
		asked, err := queries.find(uint64(handle))
		if err != nil {
			return nil, err
		}
		places := [][]string{}
		if err := decode(view(unknown, unknownSize), &places); err != nil {
			return nil, err
		}
		return asked.EvaluateUnknown(view(input, size), places, time.Duration(deadline))
	})
}

// AuthzExplain asks a query and tells everything seen on the way.
//
//export AuthzExplain
func AuthzExplain(handle C.uint64_t, input *C.uint8_t, size C.size_t, deadline C.int64_t, out *C.authz_result) {
	answer(out, func() ([]byte, error) {
		asked, err := queries.find(uint64(handle))
		if err != nil {
			return nil, err
		}
		return describe(asked.Explain(view(input, size), time.Duration(deadline)))
	})
}

// AuthzCheck finds what is wrong with a policy's source.
//
//export AuthzCheck
func AuthzCheck(options *C.uint8_t, size C.size_t, out *C.authz_result) {
	answer(out, func() ([]byte, error) {
		asked := engine.CheckOptions{}
		if err := decode(view(options, size), &asked); err != nil {
			return nil, err
		}
		return describe(engine.Check(asked))
	})
}

// AuthzTest runs a policy's tests.
//
//export AuthzTest
func AuthzTest(options *C.uint8_t, size C.size_t, out *C.authz_result) {
	answer(out, func() ([]byte, error) {
		asked := engine.TestOptions{}
		if err := decode(view(options, size), &asked); err != nil {
			return nil, err
		}
		return describe(engine.Test(asked))
	})
}

// AuthzVersions tells what the library is made of.
//
//export AuthzVersions
func AuthzVersions(out *C.authz_result) {
	answer(out, func() ([]byte, error) {
		return describe(map[string]string{"opa": version.Version, "go": strings.TrimPrefix(runtime.Version(), "go")}, nil)
	})
}

// AuthzTakePrints empties the buffer of what policies printed.
//
//export AuthzTakePrints
func AuthzTakePrints(out *C.authz_result) {
	answer(out, func() ([]byte, error) {
		lines, dropped := engine.TakePrints()
		return describe(map[string]any{"lines": lines, "dropped": dropped}, nil)
	})
}

// engineStats add to the cache's what is on the heap, live or not collected yet.
type engineStats struct {
	engine.CacheStats
	HeapBytes uint64 `json:"heap_bytes"`
}

// AuthzEngineStats tells what is compiled and prepared, and the size of the heap.
//
//export AuthzEngineStats
func AuthzEngineStats(out *C.authz_result) {
	answer(out, func() ([]byte, error) {
		heap := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
		metrics.Read(heap)
		return describe(engineStats{compiled.Stats(), heap[0].Value.Uint64()}, nil)
	})
}

// AuthzArmFault makes a named place panic once. For tests.
//
//export AuthzArmFault
func AuthzArmFault(place *C.uint8_t, size C.size_t) { fault.Arm(text(place, size)) }
