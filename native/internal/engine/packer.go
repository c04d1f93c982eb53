package engine

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/open-policy-agent/opa/v1/bundle"
)

// sharedText is how long a string may be that is looked for among those that were written before.
const sharedText = 64

// wordBytes is how much JSON text usually makes a word: growing megabytes would be copying them.
const wordBytes = 3

// packer writes data into nodes, most of it straight from JSON text: Go's own values of it would be twenty times that,
// made for nothing and marked while they are. Equal names are written once.
type packer struct {
	words  []uint32
	text   strings.Builder
	shared map[string]uint32
	// open is a stack: what was read, so far, of every array and object that is open.
	open []uint32
}

func newPacker() *packer {
	return &packer{
		words:  []uint32{kindNull, kindFalse, kindTrue, kindObject},
		shared: map[string]uint32{},
	}
}

// Where the values stand that are written first.
const (
	nodeNull uint32 = iota
	nodeFalse
	nodeTrue
	nodeEmpty
)

// packed is a value of what was written, to be read.
func (p *packer) packed(root uint32) *packed { return &packed{nodes: p.nodes(), root: root} }

func (p *packer) nodes() nodes { return nodes{text: p.text.String(), words: p.words} }

// at is a tree that has a value at a path and nothing else.
func (p *packer) at(path []string, value uint32) (uint32, error) {
	for _, name := range slices.Backward(path) {
		key, err := p.addText(kindString, []byte(name))
		if err != nil {
			return 0, err
		}
		if value, err = p.write(kindObject, 1, key, value); err != nil {
			return 0, err
		}
	}
	return value, nil
}

// merge joins two trees; it refuses where both hold a value, because which one counts would be an accident.
func (p *packer) merge(left, right uint32) (uint32, error) {
	n := p.nodes()
	if n.kind(left) != kindObject || n.kind(right) != kindObject {
		message := "two sources give different values for the same data path"
		return 0, &Error{Code: "load", Message: message, Problems: []Problem{{Code: "load_error", Message: message}}}
	}
	if n.length(left) == 0 {
		return right, nil
	}
	members := slices.Concat(n.inner(left), n.inner(right))
	p.sort(members)
	var kept []uint32
	for pair := range slices.Chunk(members, 2) {
		if last := len(kept) - 2; last >= 0 && p.name(kept[last]) == p.name(pair[0]) {
			inner, err := p.merge(kept[last+1], pair[1])
			if err != nil {
				return 0, err
			}
			kept[last+1] = inner
			continue
		}
		kept = append(kept, pair...)
	}
	return p.write(kindObject, len(kept)/2, kept...)
}

// parse writes a JSON document as OPA reads it: of equal names the last one counts.
func (p *packer) parse(text []byte) (uint32, error) {
	p.words = slices.Grow(p.words, len(text)/wordBytes)
	p.text.Grow(len(text) / 2)
	decoder := jsontext.NewDecoder(
		bytes.NewBuffer(text), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true),
	)
	node, err := p.value(decoder)
	if err != nil {
		return 0, err
	}
	if _, err := decoder.ReadToken(); !errors.Is(err, io.EOF) {
		return 0, errors.New("bytes follow the document")
	}
	return node, nil
}

func (p *packer) value(decoder *jsontext.Decoder) (uint32, error) {
	switch decoder.PeekKind() {
	case '"':
		return p.read(decoder, kindString)
	case '0':
		return p.read(decoder, kindNumber)
	}
	token, err := decoder.ReadToken()
	if err != nil {
		return 0, err
	}
	switch token.Kind() {
	case 'n':
		return nodeNull, nil
	case 'f':
		return nodeFalse, nil
	case 't':
		return nodeTrue, nil
	case '[':
		return p.composite(decoder, ']', func(elements []uint32) (uint32, error) {
			return p.write(kindArray, len(elements), elements...)
		})
	}
	return p.composite(decoder, '}', p.writeObject)
}

// composite reads what is left of an array or an object, and writes it.
func (p *packer) composite(
	decoder *jsontext.Decoder, end jsontext.Kind, write func(read []uint32) (uint32, error),
) (uint32, error) {
	first := len(p.open)
	defer func() { p.open = p.open[:first] }()
	for decoder.PeekKind() != end {
		node, err := p.value(decoder)
		if err != nil {
			return 0, err
		}
		p.open = append(p.open, node)
	}
	if _, err := decoder.ReadToken(); err != nil {
		return 0, err
	}
	return write(p.open[first:])
}

func (p *packer) read(decoder *jsontext.Decoder, kind uint32) (uint32, error) {
	text, err := decoder.ReadValue()
	switch {
	case err != nil:
		return 0, err
	case kind == kindNumber:
		return p.addText(kind, text)
	case bytes.IndexByte(text, '\\') < 0 && utf8.Valid(text):
		return p.addText(kind, text[1:len(text)-1])
	}
	var unquoted string
	if err := json.Unmarshal(text, &unquoted); err != nil {
		return 0, err
	}
	return p.addText(kind, []byte(unquoted))
}

// add writes a value as OPA's loader gives it.
func (p *packer) add(value any) (uint32, error) {
	switch value := value.(type) {
	case nil:
		return nodeNull, nil
	case bool:
		if value {
			return nodeTrue, nil
		}
		return nodeFalse, nil
	case json.Number:
		return p.addText(kindNumber, []byte(value))
	case string:
		return p.addText(kindString, []byte(value))
	case []any:
		return p.addAll(kindArray, len(value), slices.Values(value))
	case map[string]any:
		return p.addAll(kindObject, len(value), func(yield func(any) bool) {
			for _, name := range slices.Sorted(maps.Keys(value)) {
				if !yield(name) || !yield(value[name]) {
					return
				}
			}
		})
	}
	return 0, &Error{Code: "internal", Message: fmt.Sprintf("data holds a %T", value)}
}

func (p *packer) addAll(kind uint32, length int, values func(func(any) bool)) (uint32, error) {
	var written []uint32
	for value := range values {
		node, err := p.add(value)
		if err != nil {
			return 0, err
		}
		written = append(written, node)
	}
	return p.write(kind, length, written...)
}

// addText writes a number or a string.
func (p *packer) addText(kind uint32, text []byte) (uint32, error) {
	isShared := kind == kindString && len(text) <= sharedText
	if isShared {
		if node, is := p.shared[string(text)]; is {
			return node, nil
		}
	}
	start := p.text.Len()
	if int64(start)+int64(len(text)) > math.MaxUint32 {
		return 0, tooLarge("the policy's data is over %d bytes", uint32(math.MaxUint32))
	}
	node, err := p.write(kind, len(text), uint32(start))
	if err != nil {
		return 0, err
	}
	p.text.Write(text)
	if isShared {
		p.shared[string(text)] = node
	}
	return node, nil
}

// writeObject writes members as they were read; of equal names the last one.
func (p *packer) writeObject(members []uint32) (uint32, error) {
	p.sort(members)
	kept := members[:0]
	for pair := range slices.Chunk(members, 2) {
		if last := len(kept) - 2; last >= 0 && p.name(kept[last]) == p.name(pair[0]) {
			kept = kept[:last]
		}
		kept = append(kept, pair...)
	}
	return p.write(kindObject, len(kept)/2, kept...)
}

func (p *packer) name(key uint32) string {
	n := p.nodes()
	return n.scalar(key)
}

// sort brings members into the order of their names; those of equal names stay as they stood.
func (p *packer) sort(members []uint32) {
	pairs := make([][2]uint32, 0, len(members)/2)
	for pair := range slices.Chunk(members, 2) {
		pairs = append(pairs, [2]uint32(pair))
	}
	byName := func(left, right [2]uint32) int { return strings.Compare(p.name(left[0]), p.name(right[0])) }
	if slices.IsSortedFunc(pairs, byName) {
		return
	}
	slices.SortStableFunc(pairs, byName)
	for i, pair := range pairs {
		copy(members[2*i:], pair[:])
	}
}

// write writes a node's first word and what follows it.
func (p *packer) write(kind uint32, length int, words ...uint32) (uint32, error) {
	if length > maxLength || len(p.words)+len(words) >= math.MaxUint32 {
		return 0, tooLarge("the policy's data has over %d values", maxLength)
	}
	node := uint32(len(p.words))
	p.words = append(append(p.words, kind|uint32(length)), words...)
	return node, nil
}

// strays finds a path of a bundle's data that its manifest does not permit, as OPA does.
func (p *packer) strays(roots []string, path string, node uint32) (string, bool) {
	at := strings.Trim(path, "/")
	if bundle.RootPathsContain(roots, at) {
		return "", false
	}
	n := p.nodes()
	isAbove := func(root string) bool { return bundle.RootPathsContain(strings.Split(at, "/"), root) }
	if n.kind(node) != kindObject || !slices.ContainsFunc(roots, isAbove) {
		return at, true
	}
	for pair := range slices.Chunk(n.inner(node), 2) {
		if stray, is := p.strays(roots, path+"/"+n.scalar(pair[0]), pair[1]); is {
			return stray, true
		}
	}
	return "", false
}
