package engine

import (
	"bytes"
	"io"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/open-policy-agent/opa/v1/ast"
)

// maxInputDepth is more than any input of ours has; it bounds the recursion.
const maxInputDepth = 1000

var decoders = sync.Pool{New: func() any { return &inputDecoder{Decoder: jsontext.NewDecoder(bytes.NewReader(nil))} }}

// view is what a policy can see of one value of its input: all of it, or what stands under the names it spells out.
// What no rule reads is checked to be JSON and made no value of: most of an input is there for other policies.
type view struct {
	name  *ast.Term
	whole bool
	under map[string]*view
}

var everything = &view{whole: true}

// newView joins what the references reach.
func newView(references []Reference) *view {
	root := &view{}
	for _, reference := range references {
		root.add(reference.Path)
	}
	return root
}

func (v *view) add(path []string) {
	if len(path) == 0 {
		v.whole = true
		return
	}
	if v.under == nil {
		v.under = map[string]*view{}
	}
	if v.under[path[0]] == nil {
		v.under[path[0]] = &view{name: ast.StringTerm(path[0])}
	}
	v.under[path[0]].add(path[1:])
}

// inputDecoder builds Rego values straight from JSON text. OPA's own way makes Go values first, of which nothing is kept.
type inputDecoder struct {
	*jsontext.Decoder
	reader bytes.Reader
	// pairs is a stack: the members, so far, of every object that is open.
	pairs [][2]*ast.Term
}

// parseInput reads what is seen of the input document. It was written by our own side from bytes that were judged
// before, so a document that does not parse is a bug, never a caller's mistake.
func parseInput(input []byte, seen *view) (ast.Value, error) {
	decoder := decoders.Get().(*inputDecoder)
	defer decoders.Put(decoder)
	decoder.reader.Reset(input)
	decoder.Reset(&decoder.reader)
	term, err := decoder.term(0, seen)
	if err != nil {
		return nil, &Error{Code: "input", Message: "the input is not JSON"}
	}
	if _, err := decoder.ReadToken(); err != io.EOF {
		return nil, &Error{Code: "input", Message: "bytes follow the input"}
	}
	return term.Value, nil
}

func (d *inputDecoder) term(depth int, seen *view) (*ast.Term, error) {
	token, err := d.ReadToken()
	if err != nil || depth > maxInputDepth {
		return nil, io.ErrUnexpectedEOF
	}
	switch token.Kind() {
	case 'n':
		return ast.InternedNullTerm, nil
	case 't', 'f':
		return ast.InternedTerm(token.Bool()), nil
	case '"':
		return ast.StringTerm(token.String()), nil
	case '0':
		return ast.NewTerm(ast.Number(token.String())), nil
	case '[':
		return d.array(depth)
	default:
		return d.object(depth, seen)
	}
}

// array reads all of it: a path that is spelled out stops before an index.
func (d *inputDecoder) array(depth int) (*ast.Term, error) {
	var elements []*ast.Term
	for d.PeekKind() != ']' {
		element, err := d.term(depth+1, everything)
		if err != nil {
			return nil, err
		}
		elements = append(elements, element)
	}
	_, err := d.ReadToken()
	if len(elements) == 0 {
		return ast.InternedEmptyArray, err
	}
	return ast.ArrayTerm(elements...), err
}

func (d *inputDecoder) object(depth int, seen *view) (*ast.Term, error) {
	first := len(d.pairs)
	defer func() {
		clear(d.pairs[first:])
		d.pairs = d.pairs[:first]
	}()
	for d.PeekKind() != '}' {
		if err := d.member(depth, seen); err != nil {
			return nil, err
		}
	}
	_, err := d.ReadToken()
	if len(d.pairs) == first {
		return ast.InternedEmptyObject, err
	}
	return ast.ObjectTerm(d.pairs[first:]...), err
}

// member reads a name and, where the name is seen, its value.
func (d *inputDecoder) member(depth int, seen *view) error {
	text, err := d.ReadValue()
	if err != nil || text.Kind() != '"' {
		return io.ErrUnexpectedEOF
	}
	name := text[1 : len(text)-1]
	if bytes.IndexByte(name, '\\') >= 0 {
		if name, err = jsontext.AppendUnquote(nil, text); err != nil {
			return err
		}
	}
	key, below := (*ast.Term)(nil), seen.under[string(name)]
	switch {
	case seen.whole:
		key, below = ast.StringTerm(string(name)), everything
	case below == nil:
		return d.SkipValue()
	default:
		key = below.name
	}
	value, err := d.term(depth+1, below)
	d.pairs = append(d.pairs, [2]*ast.Term{key, value})
	return err
}
