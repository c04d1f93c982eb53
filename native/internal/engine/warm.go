package engine

import (
	"maps"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
)

// warm builds, before any call is answered, the large documents that rules read as one value: those that they search,
// hand to a builtin or bind. The first call would wait for them else, past its deadline.
func (p *packed) warm(modules map[string]*ast.Module) {
	for _, module := range modules {
		for _, rule := range module.Rules {
			for branch := rule; branch != nil; branch = branch.Else {
				p.warmRule(branch)
			}
		}
	}
}

func (p *packed) warmRule(rule *ast.Rule) {
	given := ast.NewVarSet()
	for _, argument := range rule.Head.Args {
		given.Update(argument.Vars())
	}
	p.warmBody(rule.Body, given)
	// Whatever the head names, the body has given a value to.
	given.Update(rule.Body.Vars(ast.VarVisitorParams{}))
	for _, term := range append(ast.Ref{rule.Head.Key, rule.Head.Value}, rule.Head.Reference...) {
		if term != nil {
			p.warmNode(term, given)
		}
	}
}

// warmBody goes through expressions in the order in which they are evaluated: a variable that none of them named before
// is one that a reference goes through.
func (p *packed) warmBody(body ast.Body, given ast.VarSet) {
	given = maps.Clone(given)
	for _, expr := range body {
		p.warmNode(expr, given)
		given.Update(expr.Vars(ast.VarVisitorParams{}))
	}
}

func (p *packed) warmNode(node any, given ast.VarSet) {
	ast.NewGenericVisitor(func(part any) bool {
		switch part := part.(type) {
		case ast.Ref:
			if part.HasPrefix(ast.DefaultRootRef) {
				p.warmAt(p.root, part[1:], given)
			}
		case *ast.ArrayComprehension:
			return p.warmComprehension(part.Body, given, part.Term)
		case *ast.SetComprehension:
			return p.warmComprehension(part.Body, given, part.Term)
		case *ast.ObjectComprehension:
			return p.warmComprehension(part.Body, given, part.Key, part.Value)
		case *ast.Every:
			p.warmNode(part.Domain, given)
			p.warmBody(part.Body, with(given, part.KeyValueVars()))
			return true
		}
		return false
	}).Walk(node)
}

// warmComprehension takes what is collected last: its body gave it a value. It is a visitor's word for: no further.
func (p *packed) warmComprehension(body ast.Body, given ast.VarSet, collected ...*ast.Term) bool {
	p.warmBody(body, given)
	for _, term := range collected {
		p.warmNode(term, with(given, body.Vars(ast.VarVisitorParams{})))
	}
	return true
}

func with(given, more ast.VarSet) ast.VarSet {
	both := maps.Clone(given)
	both.Update(more)
	return both
}

// warmAt builds what a reference reads, below a node: where a variable has a value by then, that may be any member.
func (p *packed) warmAt(node uint32, rest ast.Ref, given ast.VarSet) {
	if !p.isLarge(node) {
		return
	}
	if len(rest) == 0 {
		p.value(node)
		return
	}
	switch next := rest[0].Value.(type) {
	case ast.String, ast.Number:
		if path, err := storage.NewPathForRef(ast.Ref{ast.DefaultRootDocument, rest[0]}); err == nil {
			if inner, found := p.follow(node, path); found {
				p.warmAt(inner, rest[1:], given)
			}
		}
	case ast.Var:
		if !given.Contains(next) {
			p.value(node)
			return
		}
		p.warmMembers(node, rest, given)
	default:
		p.warmMembers(node, rest, given)
	}
}

func (p *packed) warmMembers(node uint32, rest ast.Ref, given ast.VarSet) {
	members, step := p.words[node+1:node+1+p.length(node)], 1
	if p.kind(node) == kindObject {
		members, step = p.members(node), 2
	}
	for place := step - 1; place < len(members); place += step {
		p.warmAt(members[place], rest[1:], given)
	}
}
