# METADATA
# title: Confinement of file paths
# description: |
#   A path is judged as it was sent, never normalised: whatever a tool might resolve differently from this policy (`..`,
#   empty segments, percent-encoding, backslashes, control characters, drive letters, look-alikes of the dot and the
#   slash) is refused. Symbolic links are the tool's to refuse; no policy can see them.
# scope: package
package authzlib.paths

# METADATA
# title: A path below one of the allowed roots
# description: |
#   Is true when the path is plain and equals a root or lies below it. Absolute roots (`/docs`) cover absolute paths
#   only, relative roots (`docs`) relative ones only, and `/docs` does not cover `/docs-private`.
# scope: document
confined(path, roots) if {
	plain(path)
	some root in roots
	_below(path, root)
}

# METADATA
# title: A path that reads the same to everyone
# scope: document
plain(path) if {
	is_string(path)

	# The second character class holds U+2024, U+2044, U+2215, U+29F8, U+FF0E, U+FF0F and U+FF3C.
	regex.match(`^/?[^/\\%:~\x00-\x1f\x7f\x{2024}\x{2044}\x{2215}\x{29f8}\x{ff0e}\x{ff0f}\x{ff3c}][^\\%:\x00-\x1f\x7f\x{2024}\x{2044}\x{2215}\x{29f8}\x{ff0e}\x{ff0f}\x{ff3c}]*$`, path)

	# `.`, `..`, and what some file systems trim to them (`.. `, `...`); then the empty segment.
	not regex.match(`(?:^|/)[. ]+(?:/|$)`, path)
	not contains(path, "//")
	not endswith(path, "/")
}

_below(path, root) if path == root

_below(path, root) if startswith(path, concat("", [trim_suffix(root, "/"), "/"]))
