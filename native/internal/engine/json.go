package engine

import (
	"encoding/json"

	"github.com/open-policy-agent/opa/v1/ast"
)

// appendJSON writes a ground value as JSON, as `ast.JSON` and encoding/json would, without building the value in
// between. Sets become sorted arrays and keys that are not strings their JSON text, as OPA's own API does.
func appendJSON(to []byte, value ast.Value) ([]byte, error) {
	switch value := value.(type) {
	case ast.Null:
		return append(to, "null"...), nil
	case ast.Boolean:
		if value {
			return append(to, "true"...), nil
		}
		return append(to, "false"...), nil
	case ast.Number:
		return append(to, string(value)...), nil
	case ast.String:
		return appendString(to, string(value))
	case *ast.Array:
		return appendSequence(to, value.Len(), value.Elem)
	case ast.Set:
		elements := value.Slice()
		return appendSequence(to, len(elements), func(i int) *ast.Term { return elements[i] })
	case ast.Object:
		return appendObject(to, value)
	default:
		return nil, &Error{Code: "internal", Message: "the result holds a value that JSON has no type for"}
	}
}

func appendSequence(to []byte, length int, element func(int) *ast.Term) ([]byte, error) {
	var err error
	to = append(to, '[')
	for i := range length {
		if i > 0 {
			to = append(to, ',')
		}
		if to, err = appendJSON(to, element(i).Value); err != nil {
			return nil, err
		}
	}
	return append(to, ']'), nil
}

func appendObject(to []byte, object ast.Object) ([]byte, error) {
	to = append(to, '{')
	for i, key := range object.Keys() {
		if i > 0 {
			to = append(to, ',')
		}
		var err error
		if to, err = appendKey(to, key.Value); err != nil {
			return nil, err
		}
		to = append(to, ':')
		if to, err = appendJSON(to, object.Get(key).Value); err != nil {
			return nil, err
		}
	}
	return append(to, '}'), nil
}

func appendKey(to []byte, key ast.Value) ([]byte, error) {
	if text, ok := key.(ast.String); ok {
		return appendString(to, string(text))
	}
	text, err := appendJSON(nil, key)
	if err != nil {
		return nil, err
	}
	return appendString(to, string(text))
}

func appendString(to []byte, text string) ([]byte, error) {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return appendEscaped(to, text)
		}
	}
	to = append(to, '"')
	to = append(to, text...)
	return append(to, '"'), nil
}

func appendEscaped(to []byte, text string) ([]byte, error) {
	quoted, err := json.Marshal(text)
	return append(to, quoted...), err
}
