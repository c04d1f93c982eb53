package engine

import (
	"strings"
	"sync"
	"testing"
)

func TestAHeapOfLargePoliciesDoesNotGrowToSeveralTimesItself(t *testing.T) {
	asked := pace{percent: 400}
	for _, step := range []struct {
		bytes int64
		want  int
	}{{1 << 20, 400}, {2 << 20, 400}, {20 << 20, 150}, {-20 << 20, 400}, {2 << 20, 150}} {
		if asked.add(step.bytes); asked.inForce() != step.want {
			t.Fatalf("%d bytes: %d", asked.bytes, asked.inForce())
		}
	}
	if sparing := (pace{percent: 50, bytes: 20 << 20}); sparing.inForce() != 50 {
		t.Fatal("a heap that was to grow by less grows by more")
	}
}

func TestWhatIsClosedIsNotCountedAnyMore(t *testing.T) {
	cache := NewCache()
	cache.Pace(400)
	defer cache.Pace(100)
	document := `{"text": "` + strings.Repeat("x", 5<<20) + `"}`
	options := Options{Paths: []string{tree(t, map[string]string{"data.json": document})}, Contract: Agent, MaxBytes: 6 << 20}
	policy, err := cache.Open(options)
	if err != nil {
		t.Fatal(err)
	}
	if cache.pace.inForce() != largePercent || cache.pace.bytes < 5<<20 {
		t.Fatalf("%+v", cache.pace)
	}
	cache.Close(policy)
	if cache.pace.bytes != 0 {
		t.Fatalf("%+v", cache.pace)
	}
}

func TestThoseWhoOpenTheSamePolicyAtOnceHoldOne(t *testing.T) {
	cache := NewCache()
	options := Options{Paths: []string{tree(t, map[string]string{"p.rego": "package authz\nvalue := 1\n"})}, Contract: Agent}
	held := make([]*Policy, 8)
	var openers sync.WaitGroup
	for i := range held {
		openers.Go(func() { held[i], _ = cache.Open(options) })
	}
	openers.Wait()
	for _, policy := range held {
		if policy == nil || policy != held[0] {
			t.Fatal("several are compiled and kept")
		}
		cache.Close(policy)
	}
	if cache.Stats().Policies != 0 {
		t.Fatal("never let go")
	}
}
