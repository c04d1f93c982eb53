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
func NewCache() *Cache { return &Cache{policies: map[identity]*shared{}} }

// Open reads a policy's files and compiles them, unless the same ones are open. Each Open needs its own Close.
func (c *Cache) Open(options Options) (*Policy, error) {
	read, err := read(options)
	if err != nil {
		return nil, policyError(err)
	}
	key := identity{options.Contract, read.digest(), strings.Join(read.roots, "\x00")}
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if found, known := c.policies[key]; known {
		found.holders++
		return found.Policy, nil
	}
	policy, err := read.compile(key)
	if err != nil {
		return nil, policyError(err)
	}
	policy.cache = c
	c.policies[key] = &shared{Policy: policy, holders: 1}
	return policy, nil
}

// Close gives up one Open. Evaluations under way finish.
func (c *Cache) Close(policy *Policy) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if found, known := c.policies[policy.identity]; known {
		found.holders--
		if found.holders == 0 {
			delete(c.policies, policy.identity)
		}
	}
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
