# METADATA
# title: Confinement of URLs
# description: |
#   A URL is judged as it was sent. Libraries disagree about the host of an odd URL (`https://good@evil`, `\`, numeric
#   hosts, a trailing dot, control characters), so whatever is not plain is refused and not interpreted. Redirects and
#   what a name resolves to are the egress proxy's to refuse; no policy can see them.
# scope: package
# related_resources:
#   - ref: https://www.rfc-editor.org/rfc/rfc3986
#     description: Uniform Resource Identifier, generic syntax
package authzlib.urls

# METADATA
# title: A URL at one of the allowed destinations
# description: |
#   Is true when the URL is plain and goes to a destination `{scheme, host, port}`, where `scheme` defaults to https and
#   `port` to the scheme's own. `host` is a name, or `*.` and a name for everything below that name and not the name
#   itself. Names are compared without case.
# scope: document
confined(url, destinations) if {
	target := parsed(url)
	some destination in destinations
	target.scheme == object.get(destination, "scheme", "https")
	target.port == object.get(destination, "port", _ports[target.scheme])
	_names(destination.host, target.host)
}

# METADATA
# title: The scheme, host and port of a plain URL
# description: Is undefined for a URL with user information, an IP address, an escaped or non-ASCII host, or odd characters.
# scope: document
parsed(url) := {"scheme": scheme, "host": host, "port": port} if {
	is_string(url)
	[[_, scheme, name, digits]] := regex.find_all_string_submatch_n(_plain, url, -1)
	host := lower(name)

	# A last label that begins with a digit is an IPv4 address to some resolvers: `127.1`, `0x7f000001`, `2130706433`.
	not regex.match(`(?:^|\.)[0-9][^.]*$`, host)
	port := _port(scheme, digits)
}

_ports := {"http": 80, "https": 443}

_plain := concat("", [
	`^(https?)://`,
	`((?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.)*[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)`,
	`(?::([1-9][0-9]{0,4}))?`,
	`(?:[/?#][!-\[\]-~]*)?$`,
])

_port(scheme, "") := _ports[scheme]

_port(_, digits) := port if {
	digits != ""
	port := to_number(digits)
	port <= 65535
}

_names(pattern, host) if lower(pattern) == host

_names(pattern, host) if {
	startswith(pattern, "*.")
	endswith(host, substring(lower(pattern), 1, -1))
}
