# METADATA
# title: What an SQL text may do
# description: |
#   No dialect is parsed here. `reads_only` proves that a text is one plain query by refusing whatever some dialect might
#   read otherwise: a second statement, comments (some run), escapes, every quote but a paired single one, and every word
#   that can write, wherever it stands outside a string. Build an allow on `reads_only`; `destructive` only names a refusal.
# scope: package
package authzlib.sql

# METADATA
# title: The words that destroy or write
# scope: document
destructive_verbs := {
	"alter", "call", "create", "delete", "drop", "exec", "execute", "grant", "insert", "merge", "rename",
	"replace", "revoke", "truncate", "update", "upsert",
}

# METADATA
# title: A text that only reads
# description: Is true for a single SELECT, VALUES, SHOW, DESCRIBE or EXPLAIN statement, or WITH, without words that write.
# scope: document
reads_only(text) if {
	is_string(text)
	not regex.match(_ambiguous, text)
	rest := _without_strings(text)
	not regex.match(_unpaired, rest)
	words := _words(rest)
	words[0] in {"select", "with", "values", "show", "describe", "explain"}
	every word in words {
		not word in _writing
	}
}

# METADATA
# title: A text with a destructive verb
# description: Returns the destructive verbs of the text, those in comments and quoted names too, but not in strings.
# scope: document
destructive(text) := {word |
	is_string(text)
	some word in _words(_without_strings(text))
	word in destructive_verbs
}

# Words that write or reach out of the database without being statements of their own, in one dialect or another.
_writing := destructive_verbs | {
	"analyze", "attach", "benchmark", "copy", "dblink", "do", "dumpfile", "into", "load_extension", "load_file",
	"lo_export", "lo_import", "lock", "nextval", "outfile", "pg_read_file", "pg_sleep", "pragma", "set", "setval",
	"sleep", "vacuum",
}

# Comments, escapes, control characters, and the quotes that can hide a quote: "x'y", `x'y`, [x'y], $$x'y$$.
_ambiguous := concat("", [`/\*|--|[#\\"\[`, "`", `\x00-\x08\x0e-\x1f]|\$[A-Za-z0-9_]*\$`])

# A quote or a semicolon outside strings, but for one semicolon at the end, and strings with a prefix (E'', q'[]').
_unpaired := `'|;\s*[^;\s]|;\s*;|[A-Za-z0-9_]\x01`

_words(text) := [lower(word) | some word in regex.find_n(`[A-Za-z_][A-Za-z0-9_]*`, text, -1)]

_without_strings(text) := regex.replace(text, `'[^']*'`, "\u0001")
