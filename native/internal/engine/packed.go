package engine

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/util"
)

const (
	// largeNodes is how many values a document has that is built once and kept for good: building it again would be felt.
	largeNodes = 256
	// recentDocuments is how many of the others are kept, each until another one takes its place.
	recentDocuments = 1024
)

// A node is a word of its kind and length, and what follows: where a scalar's text begins, the places of an array's
// elements, or of an object's keys and values in turn, sorted by key.
const (
	kindNull uint32 = iota << lengthBits
	kindFalse
	kindTrue
	kindNumber
	kindString
	kindArray
	kindObject

	lengthBits = 28
	maxLength  = 1<<lengthBits - 1
)

// packed is a policy's data as a store that OPA reads: one text and one slice of words, however many values there are,
// so that the collector has nothing to walk. 20 MiB of JSON are 430 MiB as terms, and marking those, three revisions at
// once while a bundle is taken in, kept calls waiting for tens of milliseconds. What a rule reads is built when it is
// read; what it reads whole, such as a table that it searches, is kept as it was built.
//
// It answers as OPA's own store in memory does. It never changes, so a transaction is nothing.
type packed struct {
	storage.WritesNotSupported
	storage.PolicyNotSupported
	storage.TriggersNotSupported

	nodes
	root uint32

	large  sync.Map // uint32 to *document
	recent [recentDocuments]atomic.Pointer[document]
}

// document is an array or an object that was built.
type document struct {
	node  uint32
	once  sync.Once
	value ast.Value
}

// nodes are values by their places.
type nodes struct {
	text  string
	words []uint32
}

func (n *nodes) kind(node uint32) uint32 { return n.words[node] &^ maxLength }

func (n *nodes) length(node uint32) uint32 { return n.words[node] & maxLength }

func (n *nodes) scalar(node uint32) string {
	start := n.words[node+1]
	return n.text[start : start+n.length(node)]
}

// inner are the places of an array's elements, or of an object's keys and values in turn; a scalar has none.
func (n *nodes) inner(node uint32) []uint32 {
	switch n.kind(node) {
	case kindArray:
		return n.words[node+1 : node+1+n.length(node)]
	case kindObject:
		return n.words[node+1 : node+1+2*n.length(node)]
	}
	return nil
}

// find follows a path as OPA's store does: names in objects, whole numbers in arrays.
func (p *packed) find(path storage.Path) (uint32, bool) { return p.follow(p.root, path) }

func (p *packed) follow(node uint32, path storage.Path) (uint32, bool) {
	for _, name := range path {
		found := false
		switch p.kind(node) {
		case kindObject:
			node, found = p.member(node, name)
		case kindArray:
			node, found = p.element(node, name)
		}
		if !found {
			return 0, false
		}
	}
	return node, true
}

func (p *packed) member(object uint32, name string) (uint32, bool) {
	low, high := uint32(0), p.length(object)
	for low < high {
		middle := (low + high) / 2
		place := object + 1 + 2*middle
		switch order := strings.Compare(p.scalar(p.words[place]), name); {
		case order == 0:
			return p.words[place+1], true
		case order < 0:
			low = middle + 1
		default:
			high = middle
		}
	}
	return 0, false
}

func (p *packed) element(array uint32, name string) (uint32, bool) {
	index, isIndex := util.Atoi(name)
	if !isIndex || index < 0 || index >= int(p.length(array)) {
		return 0, false
	}
	return p.inner(array)[index], true
}

// value is a node as Rego's.
func (p *packed) value(node uint32) ast.Value {
	switch p.kind(node) {
	case kindNull:
		return ast.NullValue
	case kindFalse, kindTrue:
		return ast.InternedTerm(p.kind(node) == kindTrue).Value
	case kindNumber:
		return ast.Number(p.scalar(node))
	case kindString:
		return ast.String(p.scalar(node))
	}
	recent := &p.recent[node%recentDocuments]
	if known := recent.Load(); known != nil && known.node == node {
		return known.value
	}
	if known, found := p.large.Load(node); found {
		return known.(*document).built(p)
	}
	if p.isLarge(node) {
		// However many ask for it at once, one builds it.
		known, _ := p.large.LoadOrStore(node, &document{node: node})
		return known.(*document).built(p)
	}
	small := &document{node: node}
	small.built(p)
	recent.Store(small)
	return small.value
}

func (d *document) built(p *packed) ast.Value {
	d.once.Do(func() { d.value = p.build(d.node) })
	return d.value
}

func (p *packed) build(node uint32) ast.Value {
	inner := p.inner(node)
	term := func(i int) *ast.Term { return ast.NewTerm(p.value(inner[i])) }
	if p.kind(node) == kindArray {
		elements := make([]*ast.Term, len(inner))
		for i := range elements {
			elements[i] = term(i)
		}
		return ast.NewArray(elements...)
	}
	members := make([][2]*ast.Term, len(inner)/2)
	for i := range members {
		members[i] = [2]*ast.Term{term(2 * i), term(2*i + 1)}
	}
	return ast.NewObject(members...)
}

// isLarge counts no further than it must.
func (p *packed) isLarge(node uint32) bool { return p.count(node, 0) >= largeNodes }

// count adds the values that a node has to those before, up to largeNodes.
func (p *packed) count(node uint32, before int) int {
	before++
	for _, each := range p.inner(node) {
		if before >= largeNodes {
			break
		}
		before = p.count(each, before)
	}
	return before
}

// transaction is nobody's: what is read does not change.
type transaction struct{}

func (transaction) ID() uint64 { return 0 }

// NewTransaction implements storage.Store.
func (p *packed) NewTransaction(context.Context, ...storage.TransactionParams) (storage.Transaction, error) {
	return transaction{}, nil
}

// Commit implements storage.Store.
func (p *packed) Commit(context.Context, storage.Transaction) error { return nil }

// Abort implements storage.Store.
func (p *packed) Abort(context.Context, storage.Transaction) {}

// Truncate implements storage.Store.
func (p *packed) Truncate(context.Context, storage.Transaction, storage.TransactionParams, storage.Iterator) error {
	return &storage.Error{Code: storage.WritesNotSupportedErr}
}

// Read implements storage.Store: the value at a path, as Rego's.
func (p *packed) Read(_ context.Context, _ storage.Transaction, path storage.Path) (any, error) {
	node, found := p.find(path)
	if !found {
		return nil, &storage.Error{Code: storage.NotFoundErr}
	}
	return p.value(node), nil
}

// NonEmpty implements storage.NonEmptyer: whether there is a value at a path, or one above it that is no object.
func (p *packed) NonEmpty(context.Context, storage.Transaction) func([]string) (bool, error) {
	return func(path []string) (bool, error) {
		for length := len(path); length > 0; length-- {
			if node, found := p.find(path[:length]); found {
				return length == len(path) || p.kind(node) != kindObject, nil
			}
		}
		return len(path) == 0, nil
	}
}
