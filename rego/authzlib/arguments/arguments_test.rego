package authzlib.arguments_test

import data.authzlib.arguments

test_success_number_within[note] if {
	some note, amount in {"at the limit": 1000, "just above the bound": 0.01, "exponent": 1e3, "in between": 500}
	arguments.number_within({"amount": amount}, "amount", 0, 1000)
}

test_fail_number_within[note] if {
	some note, args in {
		"at the lower bound": {"amount": 0},
		"above the limit": {"amount": 1000.01},
		"negative": {"amount": -1},
		"a string, though Rego orders it above every number": {"amount": "500"},
		"a boolean": {"amount": true},
		"null, which Rego orders below every number": {"amount": null},
		"a list": {"amount": [500]},
		"an object": {"amount": {"value": 500}},
		"g4 absent": {},
		"other case": {"Amount": 500},
		"arguments that are a list": [500],
		"arguments that are a string": "amount",
	}
	not arguments.number_within(args, "amount", 0, 1000)
}

test_fail_number_within_bounds_that_are_no_numbers[note] if {
	some note, [amount, above, up_to] in {
		"limit as a string": [500, 0, "1000"],
		"limit as a list": [500, 0, [1000]],
		"limit and amount as strings": ["100", 0, "1000"],
		"null for the lower bound": [-1, null, 1000],
		"boolean for the lower bound": [-1, true, 1000],
	}
	not arguments.number_within({"amount": amount}, "amount", above, up_to)
}

test_success_number_above if arguments.number_above({"amount": 1000.01}, "amount", 1000)

test_fail_number_above[note] if {
	some note, args in {
		"at the bound": {"amount": 1000},
		"a string": {"amount": "2000"},
		"g4 absent": {},
	}
	not arguments.number_above(args, "amount", 1000)
}

test_success_listed[note] if {
	some note, value in {"one": "a", "several": ["a", "b"], "one in a list": ["b"]}
	arguments.listed({"to": value}, "to", ["a", "b"])
}

test_fail_listed[note] if {
	some note, args in {
		"not listed": {"to": "c"},
		"g5 one of several not listed": {"to": ["a", "c"]},
		"g5 empty list": {"to": []},
		"longer": {"to": "ab"},
		"other case": {"to": "A"},
		"white space": {"to": "a "},
		"g1 number": {"to": 1},
		"g1 object with listed values": {"to": {"x": "a"}},
		"nested list": {"to": [["a"]]},
		"g4 absent": {},
	}
	not arguments.listed(args, "to", ["a", "b"])
}

test_fail_listed_in_an_empty_list if not arguments.listed({"to": "a"}, "to", [])

test_success_addressed[note] if {
	some note, value in {
		"one": "ann@acme.example",
		"several": ["ann@acme.example", "bob+x@partner.example"],
		"domain in upper case": "ann@ACME.example",
	}
	arguments.addressed({"to": value}, "to", ["acme.example", "partner.example"])
}

test_fail_addressed[note] if {
	some note, value in {
		"other domain": "ann@evil.example",
		"one of several elsewhere": ["ann@acme.example", "eve@evil.example"],
		"subdomain": "ann@mail.acme.example",
		"domain as a prefix": "ann@acme.example.evil.example",
		"domain as a suffix": "ann@evilacme.example",
		"two at signs": "eve@evil.example@acme.example",
		"a second recipient": "ann@acme.example,eve@evil.example",
		"a second recipient after a space": "ann@acme.example eve@evil.example",
		"a header behind a line break": "ann@acme.example\r\nBcc: eve@evil.example",
		"a trailing line break": "ann@acme.example\n",
		"percent relaying": "eve%evil.example@acme.example",
		"bang relaying": "evil.example!eve@acme.example",
		"quoted local part": "\"eve@evil.example,\"@acme.example",
		"display name": "ann@acme.example <eve@evil.example>",
		"trailing dot": "ann@acme.example.",
		"look-alike letter": "ann@\u0430cme.example",
		"no local part": "@acme.example",
		"no domain": "ann",
		"empty": "",
		"g5 empty list": [],
		"g1 number": 1,
		"g1 null": null,
		"g1 list of lists": [["ann@acme.example"]],
	}
	not arguments.addressed({"to": value}, "to", ["acme.example", "partner.example"])
}

test_fail_addressed_g4_absent if not arguments.addressed({}, "to", ["acme.example"])

test_success_only[note] if {
	some note, args in {"all": {"a": 1, "b": 2}, "some": {"a": 1}, "none": {}}
	arguments.only(args, ["a", "b"])
}

test_fail_only[note] if {
	some note, args in {"one more": {"a": 1, "bcc": 2}, "other case": {"A": 1}, "list": ["a"], "null": null}
	not arguments.only(args, {"a", "b"})
}
