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

// inputDecoder builds Rego values straight from JSON text. OPA's own way makes Go values first, of which nothing is kept.
type inputDecoder struct {
	*jsontext.Decoder
	reader bytes.Reader
}

// parseInput reads the input document. It was written by our own side from bytes that were judged before, so a
// document that does not parse is a bug, never a caller's mistake.
func parseInput(input []byte) (ast.Value, error) {
	decoder := decoders.Get().(*inputDecoder)
	defer decoders.Put(decoder)
	decoder.reader.Reset(input)
	decoder.Reset(&decoder.reader)
	value, err := decoder.value(0)
	if err != nil {
		return nil, &Error{Code: "input", Message: "the input is not JSON"}
	}
	if _, err := decoder.ReadToken(); err != io.EOF {
		return nil, &Error{Code: "input", Message: "bytes follow the input"}
	}
	return value, nil
}

func (d *inputDecoder) value(depth int) (ast.Value, error) {
	token, err := d.ReadToken()
	if err != nil || depth > maxInputDepth {
		return nil, io.ErrUnexpectedEOF
	}
	switch token.Kind() {
	case 'n':
		return ast.NullValue, nil
	case 't', 'f':
		return ast.Boolean(token.Bool()), nil
	case '"':
		return ast.String(token.String()), nil
	case '0':
		return ast.Number(token.String()), nil
	case '[':
		return d.array(depth)
	default:
		return d.object(depth)
	}
}

func (d *inputDecoder) term(depth int) (*ast.Term, error) {
	value, err := d.value(depth)
	return ast.NewTerm(value), err
}

func (d *inputDecoder) array(depth int) (ast.Value, error) {
	var elements []*ast.Term
	for d.PeekKind() != ']' {
		element, err := d.term(depth + 1)
		if err != nil {
			return nil, err
		}
		elements = append(elements, element)
	}
	_, err := d.ReadToken()
	return ast.NewArray(elements...), err
}

func (d *inputDecoder) object(depth int) (ast.Value, error) {
	pairs := make([][2]*ast.Term, 0, 8)
	for d.PeekKind() != '}' {
		key, err := d.term(depth + 1)
		if err != nil {
			return nil, err
		}
		value, err := d.term(depth + 1)
		if err != nil {
			return nil, err
		}
		pairs = append(pairs, [2]*ast.Term{key, value})
	}
	_, err := d.ReadToken()
	return ast.NewObject(pairs...), err
}
