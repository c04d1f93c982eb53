package authzlib.urls_test

import data.authzlib.urls

destinations := [
	{"host": "api.example.com"},
	{"host": "*.tools.example"},
	{"host": "plain.example", "scheme": "http"},
	{"host": "odd.example", "port": 8443},
]

test_success_confined[note] if {
	some note, url in {
		"host": "https://api.example.com",
		"path": "https://api.example.com/v1/items",
		"query and fragment": "https://api.example.com/?a=b@c#d",
		"query without a path": "https://api.example.com?a=b",
		"its own port": "https://api.example.com:443/",
		"host in upper case": "https://API.Example.com/",
		"below": "https://a.tools.example/",
		"deep below": "https://a.b.tools.example/",
		"other scheme where allowed": "http://plain.example/",
		"other port where allowed": "https://odd.example:8443/",
		"ipv6 brackets in a query": "https://api.example.com/?a[]=1",
	}
	urls.confined(url, destinations)
}

test_fail_confined[note] if {
	some note, url in {
		"other host": "https://evil.example/",
		"the host as a prefix": "https://api.example.com.evil.example/",
		"the host as a suffix": "https://evilapi.example.com/",
		"subdomain of an exact host": "https://a.api.example.com/",
		"the apex of a wildcard": "https://tools.example/",
		"no dot before a wildcard's name": "https://eviltools.example/",
		"plain http": "http://api.example.com/",
		"https where http is allowed": "https://plain.example/",
		"other scheme": "ftp://api.example.com/",
		"scheme in upper case": "HTTPS://api.example.com/",
		"javascript": "javascript:https://api.example.com/",
		"no scheme": "//api.example.com/",
		"user information": "https://api.example.com@evil.example/",
		"user and password": "https://api.example.com:443@evil.example/",
		"user before the right host": "https://eve@api.example.com/",
		"encoded at sign": "https://api.example.com%40evil.example/",
		"backslash": "https://evil.example\\.api.example.com/",
		"backslash before the at sign": "https://api.example.com\\@evil.example/",
		"fragment before the at sign is a fragment": "https://evil.example#@api.example.com/",
		"other port": "https://api.example.com:8443/",
		"port zero": "https://api.example.com:0/",
		"port out of range": "https://api.example.com:65979/",
		"port with a sign": "https://api.example.com:+443/",
		"empty port": "https://api.example.com:/",
		"its port is the only one": "https://odd.example/",
		"trailing dot": "https://api.example.com./",
		"empty label": "https://api..example.com/",
		"leading dot": "https://.tools.example/",
		"line break": "https://api.example.com\n/",
		"trailing line break": "https://api.example.com/\n",
		"tab": "https://api.exam\tple.com/",
		"space": "https://api.example.com/ a",
		"leading space": " https://api.example.com/",
		"nul": "https://api.example.com\u0000.evil.example/",
		"look-alike letter": "https://\u0430pi.example.com/",
		"full-width dot": "https://api\u3002example.com/",
		"empty": "",
		"g1 number": 1,
		"g1 list": ["https://api.example.com/"],
		"g1 null": null,
	}
	not urls.confined(url, destinations)
}

test_fail_addresses_even_where_listed[note] if {
	some note, host in {
		"dotted": "127.0.0.1",
		"short": "127.1",
		"decimal": "2130706433",
		"hexadecimal": "0x7f000001",
		"octal": "0177.0.0.1",
		"ipv6": "[::1]",
		"mapped": "[::ffff:127.0.0.1]",
		"metadata service": "169.254.169.254",
	}
	not urls.confined(concat("", ["https://", host, "/"]), [{"host": host}])
}

test_fail_confined_without_destinations if not urls.confined("https://api.example.com/", [])

test_success_parsed if {
	urls.parsed("https://Api.example.com/x") == {"scheme": "https", "host": "api.example.com", "port": 443}
}

test_fail_parsed[url] if {
	some url in {"https://a@b/", "https://a.example:65979/", "https://a.example:65536/", "https://10.0.0.1/"}
	not urls.parsed(url)
}
