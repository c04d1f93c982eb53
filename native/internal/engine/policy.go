// Package engine is OPA as a library: it loads policies and answers queries on them.
//
// It must never reach the network, read the clock into a decision, or let one evaluation outlive its deadline; it never
// judges what a result means. It trusts its caller to have verified where a policy came from.
package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/topdown/cache"
)

// Options say what to load. Paths or Archive, not both.
type Options struct {
	Paths    []string `json:"paths"`
	Contract Contract `json:"contract"`
	MaxBytes int64    `json:"max_bytes"`
	Archive  []byte   `json:"-"`
}

// Policy is one compiled set of modules and data. It never changes; a new revision is a new Policy.
type Policy struct {
	Digest      string          `json:"digest"`
	Revision    string          `json:"revision"`
	Metadata    map[string]any  `json:"metadata"`
	Annotations json.RawMessage `json:"annotations"`
	Warnings    []Problem       `json:"warnings"`
	References  []Reference     `json:"references"`

	identity identity
	contract Contract
	bytes    int64
	compiler *ast.Compiler
	store    *packed
	seen     *view
	values   cache.InterQueryValueCache

	cache   *Cache
	mutex   sync.Mutex
	queries map[string]*Query
}

// compile makes a policy of a snapshot. Nothing of it is kept if any part is wrong.
func (s *snapshot) compile(key identity) (*Policy, error) {
	loaded, err := s.load(key.contract.capabilities(), isTest)
	if err != nil {
		return nil, err
	}
	policy := &Policy{
		Digest:   key.digest,
		Metadata: map[string]any{},
		identity: key,
		contract: key.contract,
		bytes:    s.total,
		store:    loaded.data.packed(loaded.document),
		values:   newValues(),
		queries:  map[string]*Query{},
	}
	policy.describe(loaded)
	return policy, policy.compile(loaded.modules)
}

func read(options Options) (*snapshot, error) {
	if options.Contract != Agent && options.Contract != Envoy {
		return nil, &Error{Code: "options", Message: fmt.Sprintf("unknown contract %q", options.Contract)}
	}
	if (len(options.Paths) == 0) == (options.Archive == nil) {
		return nil, &Error{Code: "options", Message: "a policy is read from paths or from an archive"}
	}
	if options.Archive != nil {
		return readArchive(options.Archive, options.MaxBytes)
	}
	return readPaths(options.Paths, options.MaxBytes)
}

// maxValues bounds what builtins keep between evaluations (compiled patterns, mostly): a pattern can come from the input.
const maxValues = 1024

func newValues() cache.InterQueryValueCache {
	most := maxValues
	bounded := cache.InterQueryBuiltinValueCacheConfig{MaxNumEntries: &most}
	return cache.NewInterQueryValueCache(context.Background(), &cache.Config{InterQueryBuiltinValueCache: bounded})
}

func (p *Policy) describe(loaded *source) {
	for _, manifest := range loaded.manifests {
		if p.Revision == "" {
			p.Revision = manifest.Revision
		}
		for key, value := range manifest.Metadata {
			p.Metadata[key] = value
		}
	}
}

func (p *Policy) compile(modules map[string]*ast.Module) error {
	ctx := context.Background()
	transaction, err := p.store.NewTransaction(ctx)
	if err != nil {
		return err
	}
	defer p.store.Abort(ctx, transaction)
	p.compiler = newCompiler(p.contract).WithPathConflictsCheck(storage.NonEmpty(ctx, p.store, transaction))
	if p.compiler.Compile(modules); p.compiler.Failed() {
		return p.compiler.Errors
	}
	p.store.warm(p.compiler.Modules)
	p.Warnings = undecidableCalls(p.compiler.Modules)
	p.References = references(p.compiler.Modules)
	p.seen = newView(p.References)
	annotations, err := json.Marshal(p.compiler.GetAnnotationSet().Flatten())
	p.Annotations = annotations
	return err
}

func newCompiler(contract Contract) *ast.Compiler {
	return ast.NewCompiler().
		WithCapabilities(contract.capabilities()).
		WithStrict(contract.strict()).
		WithEnablePrintStatements(true).
		SetErrorLimit(0)
}
