# METADATA
# title: Proofs about a call's arguments
# description: |
#   Each function is true when the argument is present, of the right type and within its bound, and undefined otherwise.
#   Write `allow` with the proof and `deny` with `not` the proof: an absent argument, or a number sent as a string, then
#   fails the allow and meets the deny. Arguments are named by their key at the top of `args`.
# scope: package
package authzlib.arguments

# METADATA
# title: A number above one bound and not above another
# description: |
#   Is true when `args[name]` is a number with `above < number <= up_to`. Bounds come from a bundle's data, and Rego
#   orders every number below every string: bounds that are no numbers bound nothing, so nothing is within them.
# scope: document
number_within(args, name, above, up_to) if {
	is_number(args[name])
	is_number(above)
	is_number(up_to)
	args[name] > above
	args[name] <= up_to
}

# METADATA
# title: A number above a bound
# description: Is true when `args[name]` is a number with `above < number`.
# scope: document
number_above(args, name, above) if {
	is_number(args[name])
	args[name] > above
}

# METADATA
# title: Strings from an allow-list
# description: |
#   Is true when `args[name]` is a string that stands in the list, or a non-empty list of such strings. They are compared
#   byte for byte.
# scope: document
listed(args, name, allowed) if {
	given := _list(args[name])
	count(given) > 0
	every item in given {
		item in allowed
	}
}

# METADATA
# title: E-mail recipients within allowed domains
# description: |
#   Is true when `args[name]` is one address, or a non-empty list of addresses, each of them plain (`local@domain`) and
#   at an allowed domain. Anything a mail server could read as a second recipient (comma, space, line break, angle
#   bracket, quote, route, `%` or `!` relaying) is refused, and a subdomain is not its domain.
# scope: document
addressed(args, name, domains) if {
	recipients := _list(args[name])
	count(recipients) > 0
	every recipient in recipients {
		is_string(recipient)
		regex.match(`^[A-Za-z0-9._+-]+@[A-Za-z0-9.-]+$`, recipient)
		lower(split(recipient, "@")[1]) in domains
	}
}

# METADATA
# title: No arguments but these
# description: Is true when `args` is an object without any key outside `names`. A tool may obey a key no rule looked at.
# scope: document
only(args, names) if {
	is_object(args)
	object.keys(args) - {name | some name in names} == set()
}

_list(value) := value if is_array(value)

_list(value) := [value] if is_string(value)
