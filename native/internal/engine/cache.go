package engine

import (
	"strings"
	"sync"
	"sync/atomic"
)

// Cache shares compiled policies between those who open the same files under the same contract, and with them their
// prepared queries.
type Cache struct {
	hits, misses atomic.Uint64

	mutex    sync.Mutex
	policies map[identity]*shared
	pace     pace
}

// identity holds the roots too: places in errors and explanations name the files that were asked for.
type identity struct {
	contract Contract
	digest   string
	roots    string
}

type shared struct {
	*Policy
	holders int
}

// CacheStats tell what is compiled and prepared now, and how often a query was there already when it was asked for.
type CacheStats struct {
	Policies int    `json:"policies"`
	Queries  int    `json:"queries"`
	Hits     uint64 `json:"hits"`
	Misses   uint64 `json:"misses"`
}

// NewCache makes an empty cache.
func NewCache() *Cache { return &Cache{policies: map[identity]*shared{}, pace: pace{percent: 100}} }

// Open reads a policy's files and compiles them, unless the same ones are open. Each Open needs its own Close.
func (c *Cache) Open(options Options) (*Policy, error) {
	read, err := read(options)
	if err != nil {
		return nil, policyError(err)
	}
	key := identity{options.Contract, read.digest(), strings.Join(read.roots, "\x00")}
	if known := c.hold(key, nil); known != nil {
		return known, nil
	}
	// Not under the lock: a large policy compiles for seconds, and others open, close and count meanwhile.
	policy, err := read.compile(key)
	if err != nil {
		return nil, policyError(err)
	}
	policy.cache = c
	return c.hold(key, policy), nil
}

// hold counts one more holder of the policy that is open under this key, else of this one; nil if neither is there.
func (c *Cache) hold(key identity, compiled *Policy) *Policy {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	found, known := c.policies[key]
	if !known {
		if compiled == nil {
			return nil
		}
		found = &shared{Policy: compiled}
		c.policies[key] = found
		c.pace.add(compiled.bytes)
	}
	found.holders++
	return found.Policy
}

// Close gives up one Open. Evaluations under way finish.
func (c *Cache) Close(policy *Policy) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if found, known := c.policies[policy.identity]; known {
		found.holders--
		if found.holders == 0 {
			delete(c.policies, policy.identity)
			c.pace.add(-policy.bytes)
		}
	}
}

// Pace sets how far the heap may grow between two collections, in percent, while policies are small.
func (c *Cache) Pace(percent int) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.pace.percent = percent
	c.pace.set()
}

// Stats counts what is open.
func (c *Cache) Stats() CacheStats {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	stats := CacheStats{Policies: len(c.policies), Hits: c.hits.Load(), Misses: c.misses.Load()}
	for _, policy := range c.policies {
		stats.Queries += policy.prepared()
	}
	return stats
}
