package engine

import (
	"maps"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
)

// warm builds, before any call is answered, the large documents that rules read as one value: those that they search,
// hand to a builtin or bind. The first call would wait for them else, past its deadline.
func (p *packed) warm(modules map[string]*ast.Module) {
	w := &warming{store: p, seen: map[string]bool{}}
	for _, module := range modules {
		for _, rule := range module.Rules {
			for branch := rule; branch != nil; branch = branch.Else {
				w.rule(branch)
			}
		}
	}
}

// warming goes through the rules of a policy. What several of them read alike is looked for once.
type warming struct {
	store *packed
	seen  map[string]bool
}

func (w *warming) rule(rule *ast.Rule) {
	given := ast.NewVarSet()
	for _, argument := range rule.Head.Args {
		given.Update(argument.Vars())
	}
	w.body(rule.Body, given)
	// Whatever the head names, the body has given a value to.
	given.Update(rule.Body.Vars(ast.VarVisitorParams{}))
	for _, term := range append(ast.Ref{rule.Head.Key, rule.Head.Value}, rule.Head.Reference...) {
		if term != nil {
			w.node(term, given)
		}
	}
}

// body goes through expressions in the order in which they are evaluated: a variable that none of them named before
// is one that a reference goes through.
func (w *warming) body(body ast.Body, given ast.VarSet) {
	given = maps.Clone(given)
	for _, expr := range body {
		w.node(expr, given)
		given.Update(expr.Vars(ast.VarVisitorParams{}))
	}
}

func (w *warming) node(node any, given ast.VarSet) {
	ast.NewGenericVisitor(func(part any) bool {
		switch part := part.(type) {
		case ast.Ref:
			if part.HasPrefix(ast.DefaultRootRef) {
				w.reference(part, given)
			}
		case *ast.ArrayComprehension:
			return w.comprehension(part.Body, given, part.Term)
		case *ast.SetComprehension:
			return w.comprehension(part.Body, given, part.Term)
		case *ast.ObjectComprehension:
			return w.comprehension(part.Body, given, part.Key, part.Value)
		case *ast.Every:
			w.node(part.Domain, given)
			w.body(part.Body, with(given, part.KeyValueVars()))
			return true
		}
		return false
	}).Walk(node)
}

// comprehension takes what is collected last: its body gave it a value. It is a visitor's word for: no further.
func (w *warming) comprehension(body ast.Body, given ast.VarSet, collected ...*ast.Term) bool {
	w.body(body, given)
	for _, term := range collected {
		w.node(term, with(given, body.Vars(ast.VarVisitorParams{})))
	}
	return true
}

func with(given, more ast.VarSet) ast.VarSet {
	both := maps.Clone(given)
	both.Update(more)
	return both
}

// reference builds what it reads: up to a variable that has no value by then, and through one that has to any member.
func (w *warming) reference(ref ast.Ref, given ast.VarSet) {
	read := ast.Ref{ref[0]}
	for _, term := range ref[1:] {
		if name, isVar := term.Value.(ast.Var); isVar && !given.Contains(name) {
			break
		}
		if !ast.IsScalar(term.Value) {
			term = ast.Wildcard
		}
		read = append(read, term)
	}
	if key := read.String(); !w.seen[key] {
		w.seen[key] = true
		w.store.warmAt(w.store.root, read[1:])
	}
}

func (p *packed) warmAt(node uint32, rest ast.Ref) {
	if !p.isLarge(node) {
		return
	}
	if len(rest) == 0 {
		p.value(node)
		return
	}
	if ast.IsScalar(rest[0].Value) {
		path, err := storage.NewPathForRef(ast.Ref{ast.DefaultRootDocument, rest[0]})
		if inner, found := p.follow(node, path); err == nil && found {
			p.warmAt(inner, rest[1:])
		}
		return
	}
	inner, step := p.inner(node), 1
	if p.kind(node) == kindObject {
		step = 2
	}
	for place := step - 1; place < len(inner); place += step {
		p.warmAt(inner[place], rest[1:])
	}
}
