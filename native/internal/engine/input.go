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

// The names that inputs have under either contract, and words that most hold, as terms that are made once.
func init() {
	ast.InternStringTerm(
		"version", "phase", "call", "list", "result", "agent", "id", "tenant", "session", "subject", "scopes", "parents",
		"tool", "server", "name", "protocol", "mcp", "http", "method", "tools/call", "capabilities", "connector", "pinned",
		"digest", "host", "path", "query", "headers", "source", "address", "principal", "idempotency_key", "size_bytes",
		"facts", "budgets", "approval", "time", "rfc3339", "unix_ns", "args",
		"attributes", "request", "destination", "socketAddress", "portValue", "rawBody", "scheme", "size", "parsed_path",
		"parsed_query", "parsed_body", "truncated_body", "metadataContext", "jsonrpc", "params", "arguments",
	)
}

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
	term, err := decoder.term(0)
	if err != nil {
		return nil, &Error{Code: "input", Message: "the input is not JSON"}
	}
	if _, err := decoder.ReadToken(); err != io.EOF {
		return nil, &Error{Code: "input", Message: "bytes follow the input"}
	}
	return term.Value, nil
}

func (d *inputDecoder) term(depth int) (*ast.Term, error) {
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
		return ast.InternedTerm(token.String()), nil
	case '0':
		return ast.NewTerm(ast.Number(token.String())), nil
	case '[':
		return d.array(depth)
	default:
		return d.object(depth)
	}
}

func (d *inputDecoder) array(depth int) (*ast.Term, error) {
	var elements []*ast.Term
	for d.PeekKind() != ']' {
		element, err := d.term(depth + 1)
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

func (d *inputDecoder) object(depth int) (*ast.Term, error) {
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
	if len(pairs) == 0 {
		return ast.InternedEmptyObject, err
	}
	return ast.ObjectTerm(pairs...), err
}
