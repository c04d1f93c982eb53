# METADATA
# title: Conditions that know what they do not know
# description: |
#   Each function is true or false where the value is of the type that it speaks of, and undefined where it is not, or is
#   missing. An allow asks that a condition is true, and a refusal goes away only where one is false, so that a field
#   which is missing or mistyped opens nothing. Policies written in YAML are compiled to these.
# scope: package
package authzlib.conditions

import data.authzlib.arguments
import data.authzlib.detectors
import data.authzlib.paths
import data.authzlib.redaction
import data.authzlib.sql
import data.authzlib.urls

# METADATA
# title: A field that is there
# description: Is true or false for every document. A field that is null counts as absent.
# scope: document
present(document, path) := object.get(document, path, null) != null

# METADATA
# title: The same value
# scope: document
equals(value, wanted) := value == wanted if type_name(value) == type_name(wanted)

# METADATA
# title: A number above a bound
# scope: document
above(value, bound) := value > bound if is_number(value)

# METADATA
# title: A number not below a bound
# scope: document
at_least(value, bound) := value >= bound if is_number(value)

# METADATA
# title: A number below a bound
# scope: document
below(value, bound) := value < bound if is_number(value)

# METADATA
# title: A number not above a bound
# scope: document
at_most(value, bound) := value <= bound if is_number(value)

# METADATA
# title: One of some values
# scope: document
one_of(value, allowed) := value in allowed if _alike([value], allowed)

# METADATA
# title: A list of nothing but some values
# description: A single value is a list of one. An empty list is false.
# scope: document
each_of(value, allowed) := count({item | some item in _list(value)} - allowed) == 0 if {
	count(_list(value)) > 0
	_alike(_list(value), allowed)
} else := false if _list(value) == []

# METADATA
# title: A list with one of some values in it
# description: A single value is a list of one.
# scope: document
any_of(value, wanted) := count({item | some item in _list(value)} & wanted) > 0 if _alike(_list(value), wanted)

# METADATA
# title: A text that begins with one of some texts
# scope: document
starts_with(value, prefixes) := strings.any_prefix_match(value, prefixes) if is_string(value)

# METADATA
# title: A text that ends with one of some texts
# scope: document
ends_with(value, suffixes) := strings.any_suffix_match(value, suffixes) if is_string(value)

# METADATA
# title: A text with one of some texts in it
# scope: document
holds_text(value, parts) := count([part | some part in parts; contains(value, part)]) > 0 if is_string(value)

# METADATA
# title: A text that matches one of some patterns
# description: The patterns are RE2 and match anywhere in the text.
# scope: document
matches(value, patterns) := count([pattern | some pattern in patterns; regex.match(pattern, value)]) > 0 if {
	is_string(value)
}

# METADATA
# title: A text, list or object with more than so many characters, items or keys
# scope: document
longer_than(value, length) := count(value) > length if type_name(value) in {"string", "array", "object"}

# METADATA
# title: An object without other keys
# scope: document
only_keys(value, names) := count(object.keys(value) - names) == 0 if is_object(value)

# METADATA
# title: A path below one of some roots
# description: Is undefined for a path that could be read in two ways, see `authzlib.paths`.
# scope: document
path_below(value, roots) if {
	paths.confined(value, roots)
} else := false if paths.plain(value)

# METADATA
# title: A URL at one of some destinations
# description: Is undefined for a URL that could be read in two ways, see `authzlib.urls`.
# scope: document
url_to(value, destinations) if {
	urls.confined(value, destinations)
} else := false if urls.parsed(value)

# METADATA
# title: E-mail addresses at some domains
# description: One address or a list. Is undefined where one could be read in two ways, see `authzlib.arguments`.
# scope: document
email_to(value, domains) if {
	arguments.addressed({"to": value}, "to", domains)
} else := false if {
	own := {lower(split(address, "@")[1]) | some address in _list(value)}
	arguments.addressed({"to": value}, "to", own)
}

# METADATA
# title: An SQL text that only reads
# description: Is true where that is proved, false for a text with a verb that writes, and undefined for the rest.
# scope: document
sql_reads(value) if {
	sql.reads_only(value)
} else := false if count(sql.destructive(value)) > 0

# METADATA
# title: A document that holds one of some classes of sensitive values
# description: At any depth, keys too. The classes are those of `authzlib.detectors`.
# scope: document
sensitive(value, classes) if {
	count(redaction.plan(value, classes)) > 0
} else if {
	redaction.unredactable(value, classes)
} else := false

# METADATA
# title: The classes that are credentials
# scope: document
secrets := detectors.secrets

# METADATA
# title: Redactions of what is there
# description: Returns those of some redactions whose place the document has.
# scope: document
redactions_in(document, redactions) := [redaction |
	some redaction in redactions
	json.remove(document, [redaction.path]) != document
]

# METADATA
# title: A time of the week
# description: |
#   `window` is `{days, from, to, zone}`: the days' names, minutes since midnight, a zone of the IANA database. Where
#   `from` is after `to`, it goes on past midnight and belongs to the day on which it began.
# scope: document
within_hours(unix_ns, window) := _within(window, time.weekday([unix_ns, window.zone]), minute) if {
	is_number(unix_ns)
	[hour, minutes, _] := time.clock([unix_ns, window.zone])
	minute := (hour * 60) + minutes
}

_within(window, day, minute) if {
	window.from < window.to
	day in window.days
	minute >= window.from
	minute < window.to
} else if {
	window.from >= window.to
	day in window.days
	minute >= window.from
} else if {
	window.from >= window.to
	_before[day] in window.days
	minute < window.to
} else := false

_before := {
	"Monday": "Sunday", "Tuesday": "Monday", "Wednesday": "Tuesday", "Thursday": "Wednesday", "Friday": "Thursday",
	"Saturday": "Friday", "Sunday": "Saturday",
}

_list(value) := value if is_array(value)

_list(value) := [value] if type_name(value) in {"string", "number", "boolean"}

_alike(values, others) if {
	types := {type_name(other) | some other in others}
	count({type_name(value) | some value in values} - types) == 0
}
