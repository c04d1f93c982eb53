# METADATA
# title: Redaction plans
# description: |
#   Finds sensitive values at any depth of a document and says how to redact them. A plan names places and patterns,
#   never the values found, since decisions are recorded. What a plan cannot reach, the keys of objects, is reported by
#   `unredactable`, and a policy should deny it.
# scope: package
# related_resources:
#   - ref: https://www.rfc-editor.org/rfc/rfc6901
#     description: JSON Pointer
package authzlib.redaction

import data.authzlib.detectors

# METADATA
# title: The plan for a document
# description: |
#   Returns the redactions `{path, pattern, replacement}` for the classes found, `path` a JSON pointer into the document
#   and `pattern` RE2. Without `pattern` the whole value goes: numbers, encoded text, and fields named for a secret.
# scope: document
plan(document, classes) := [redaction | some redaction in {item |
	detectors.suspected(document, classes)
	walk(document, [path, value])
	some item in _redactions(path, value, classes)
}]

# METADATA
# title: Sensitive values that no redaction reaches
# description: Is true when the key of some object in the document holds one of the classes.
# scope: document
unredactable(document, classes) if {
	detectors.suspected(document, classes)
	walk(document, [_, value])
	is_object(value)
	keys := object.keys(value)
	detectors.suspected(keys, classes)
	some key in keys
	count(detectors.found(key, classes)) > 0
}

# METADATA
# title: The JSON pointer of a path
# description: Returns the RFC 6901 pointer of a path as `walk` gives it.
# scope: document
pointer(path) := concat("", [step | some key in path; step := concat("", ["/", _escaped(key)])])

_escaped(key) := format_int(key, 10) if is_number(key)

# The tilde goes first, else the tilde of `~1` would be escaped again (RFC 6901, section 3).
_escaped(key) := replace(replace(key, "~", "~0"), "/", "~1") if is_string(key)

_redactions(path, text, classes) := {_whole(path, "assigned_secret")} if {
	is_string(text)
	"assigned_secret" in classes
	detectors.names_secret(path[count(path) - 1], text)
} else := {object.union(_whole(path, class), _pattern(class)) | some class in detectors.found(text, classes)} | {item |
	some class in detectors.found(base64.decode(_encoded(text)), classes)
	item := _whole(path, class)
} if {
	is_string(text)
} else := {_whole(path, class) | some class in detectors.found(format_int(text, 10), classes)} if {
	is_number(text)
}

_encoded(text) := text if {
	regex.match(`^[A-Za-z0-9+/]{20,}={0,2}$`, text)
	base64.is_valid(text)
}

_whole(path, class) := {"path": pointer(path), "replacement": concat("", ["[REDACTED:", class, "]"])}

_pattern(class) := {"pattern": detectors.patterns[class]} if {
	detectors.patterns[class]
} else := {}
