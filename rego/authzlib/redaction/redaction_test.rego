package authzlib.redaction_test

import data.authzlib.detectors
import data.authzlib.redaction

card := "4111 1111 1111 1111"

secret := "Zx9Qw8Er7Ty6Ui5Op4As3Df2Gh1Jk0"

classes := detectors.secrets | {"payment_card", "ssn"}

test_success_plan_names_place_and_pattern if {
	redaction.plan({"body": concat(" ", ["pay", card])}, classes) == [{
		"path": "/body",
		"pattern": detectors.patterns.payment_card,
		"replacement": "[REDACTED:payment_card]",
	}]
}

test_success_plan_reaches[note] if {
	some note, [document, path] in {
		"a key": [{"a": card}, "/a"],
		"an object in an object": [{"a": {"b": card}}, "/a/b"],
		"a list": [{"a": ["", card]}, "/a/1"],
		"b7 text content of a result": [{"content": [{"type": "text", "text": card}]}, "/content/0/text"],
		"b7 structured copy of a result": [{"structuredContent": {"rows": [{"n": card}]}}, "/structuredContent/rows/0/n"],
		"b7 meta": [{"_meta": {"x/y": card}}, "/_meta/x~1y"],
		"a tilde in a key": [{"a~b": card}, "/a~0b"],
		"what would be an escape in a key": [{"a~1b": card}, "/a~01b"],
		"an empty key": [{"": card}, "/"],
		"a key of digits": [{"0": card}, "/0"],
		"the document itself": [card, ""],
		"twenty levels": [
			{"a": {"a": {"a": {"a": {"a": {"a": {"a": {"a": {"a": {"a": card}}}}}}}}}},
			"/a/a/a/a/a/a/a/a/a/a",
		],
	}
	[item.path | some item in redaction.plan(document, classes)] == [path]
}

test_success_plan_takes_the_whole_value[note] if {
	some note, [document, class] in {
		"a number": [{"v": 4111111111111111}, "payment_card"],
		"a fraction": [{"v": 4111111111111111.5}, "payment_card"],
		"b7 base64": [{"v": base64.encode(concat(" ", ["my card", card]))}, "payment_card"],
		"a field named for a secret": [{"password": secret}, "assigned_secret"],
	}
	[item] := redaction.plan(document, classes)
	object.keys(item) == {"path", "replacement"}
	item.replacement == sprintf("[REDACTED:%s]", [class])
}

test_success_plan_has_every_class_of_a_value if {
	plan := redaction.plan({"body": concat(" and ", [card, "123-45-6789"])}, classes)
	{item.replacement | some item in plan} == {"[REDACTED:payment_card]", "[REDACTED:ssn]"}
}

test_success_plan_leaves_nothing if {
	document := {"body": concat(" and ", [card, "SSN 123-45-6789", concat("", ["token=", secret])])}
	body := _applied(document.body, redaction.plan(document, classes))
	detectors.found(body, classes) == set()
	startswith(body, "[REDACTED:payment_card] and SSN [REDACTED:ssn]")
}

# The patterns of a plan, applied to one text in the plan's order.
_applied(text, [first, second, third]) := regex.replace(
	regex.replace(regex.replace(text, first.pattern, first.replacement), second.pattern, second.replacement),
	third.pattern,
	third.replacement,
)

test_fail_plan_repeats_no_secret if {
	document := {"a": concat("", ["password=", secret]), "token": secret, "c": card}
	plan := json.marshal(redaction.plan(document, classes))
	not contains(plan, secret)
	not contains(plan, card)
}

test_fail_plan_of[note] if {
	some note, document in {
		"nothing sensitive": {"a": "hello", "b": [1, true, null, 2.5, {"c": "x"}]},
		"a number with a wrong check digit": {"a": 4111111111111112},
		"harmless base64": {"a": base64.encode("nothing to see here, move along")},
		"an empty object": {},
		"null": null,
		"a class that was not asked for": {"a": "ann@acme.example"},
	}
	redaction.plan(document, classes) == []
}

test_success_plan_of_an_unknown_class_takes_everything if {
	redaction.plan({"a": "hello"}, {"payment_cards"}) == [{"path": "/a", "replacement": "[REDACTED:payment_cards]"}]
}

test_success_unredactable[note] if {
	some note, document in {
		"b7 a key": {card: 1},
		"a key deep down": {"a": [{"b": {"123-45-6789": null}}]},
		"an assignment in a key": {concat("", ["password=", secret]): ""},
	}
	redaction.unredactable(document, classes)
}

test_fail_unredactable[note] if {
	some note, document in {
		"a value": {"a": card},
		"harmless keys": {"a": {"b": 1}},
		"a list": [card],
		"a string": card,
		"null": null,
	}
	not redaction.unredactable(document, classes)
}

test_success_pointer if redaction.pointer(["a/b", 0, "~", ""]) == "/a~1b/0/~0/"

test_fail_pointer_of_the_document_is_empty if redaction.pointer([]) == ""
