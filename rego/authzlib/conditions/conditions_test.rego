package authzlib.conditions_test

import data.authzlib.conditions

# What a question is answered: "yes", "no", or "unknown" where it is undefined.
said(answers) := "yes" if answers == {true}

said(answers) := "no" if answers == {false}

said(answers) := "unknown" if answers == set()

test_success_present[note] if {
	some note, [path, want] in {
		"there": [["args", "a"], true],
		"deep": [["args", "b", "c"], true],
		"false is there": [["args", "f"], true],
		"null": [["args", "n"], false],
		"missing": [["args", "x"], false],
		"below a text": [["args", "a", "x"], false],
	}
	conditions.present({"args": {"a": "text", "b": {"c": 1}, "n": null, "f": false}}, path) == want
}

test_success_equals[note] if {
	some note, [value, wanted, want] in {
		"text": ["a", "a", "yes"],
		"number": [1, 1.0, "yes"],
		"other": ["a", "b", "no"],
		"other type": [1, "1", "unknown"],
		"null": [null, "a", "unknown"],
		"list": [["a"], "a", "unknown"],
	}
	said({answer | answer := conditions.equals(value, wanted)}) == want
}

test_success_bounds[note] if {
	some note, [value, want] in {
		"below": [9, ["no", "no", "yes", "yes"]],
		"on it": [10, ["no", "yes", "no", "yes"]],
		"above": [10.5, ["yes", "yes", "no", "no"]],
		"text": ["11", ["unknown", "unknown", "unknown", "unknown"]],
		"null": [null, ["unknown", "unknown", "unknown", "unknown"]],
		"truth": [true, ["unknown", "unknown", "unknown", "unknown"]],
	}
	want == [
		said({answer | answer := conditions.above(value, 10)}),
		said({answer | answer := conditions.at_least(value, 10)}),
		said({answer | answer := conditions.below(value, 10)}),
		said({answer | answer := conditions.at_most(value, 10)}),
	]
}

test_success_sets[note] if {
	some note, [value, want] in {
		"one of them": ["a", ["yes", "yes", "yes"]],
		"another": ["x", ["no", "no", "no"]],
		"all of them": [["a", "b"], ["unknown", "yes", "yes"]],
		"some of them": [["a", "x"], ["unknown", "no", "yes"]],
		"none": [[], ["unknown", "no", "no"]],
		"other type": [1, ["unknown", "unknown", "unknown"]],
		"other type in a list": [["a", 1], ["unknown", "unknown", "unknown"]],
		"null": [null, ["unknown", "unknown", "unknown"]],
		"object": [{"a": "b"}, ["unknown", "unknown", "unknown"]],
	}
	want == [
		said({answer | answer := conditions.one_of(value, {"a", "b"})}),
		said({answer | answer := conditions.each_of(value, {"a", "b"})}),
		said({answer | answer := conditions.any_of(value, {"a", "b"})}),
	]
}

test_success_texts[note] if {
	some note, [value, want] in {
		"begins": ["abc", ["yes", "no", "no", "yes"]],
		"ends": ["cba", ["no", "yes", "no", "yes"]],
		"within": ["xmidx", ["no", "no", "yes", "no"]],
		"empty": ["", ["no", "no", "no", "no"]],
		"number": [7, ["unknown", "unknown", "unknown", "unknown"]],
	}
	want == [
		said({answer | answer := conditions.starts_with(value, ["ab", "zz"])}),
		said({answer | answer := conditions.ends_with(value, ["ba"])}),
		said({answer | answer := conditions.holds_text(value, ["mid"])}),
		said({answer | answer := conditions.matches(value, [`^a`, `a$`])}),
	]
}

test_success_sizes_and_keys[note] if {
	some note, [value, want] in {
		"short": ["ab", ["no", "unknown"]],
		"long": ["abc", ["yes", "unknown"]],
		"list": [[1, 2, 3], ["yes", "unknown"]],
		"known keys": [{"a": 1}, ["no", "yes"]],
		"other keys": [{"a": 1, "x": 1}, ["no", "no"]],
		"number": [1234, ["unknown", "unknown"]],
	}
	want == [
		said({answer | answer := conditions.longer_than(value, 2)}),
		said({answer | answer := conditions.only_keys(value, {"a", "b"})}),
	]
}

test_success_what_can_be_read_in_two_ways_is_unknown[note] if {
	some note, [answers, want] in {
		"path below": [{answer | answer := conditions.path_below("/docs/a", ["/docs"])}, "yes"],
		"path elsewhere": [{answer | answer := conditions.path_below("/etc/a", ["/docs"])}, "no"],
		"path that climbs": [{answer | answer := conditions.path_below("/docs/../etc", ["/docs"])}, "unknown"],
		"path that is none": [{answer | answer := conditions.path_below(7, ["/docs"])}, "unknown"],
		"url there": [{answer | answer := conditions.url_to("https://a.example/x", [{"host": "a.example"}])}, "yes"],
		"url elsewhere": [{answer | answer := conditions.url_to("https://b.example", [{"host": "a.example"}])}, "no"],
		"url with a user": [{answer | answer := conditions.url_to("https://a.example@b.example", [{"host": "a.example"}])}, "unknown"],
		"mail there": [{answer | answer := conditions.email_to(["ann@a.example"], {"a.example"})}, "yes"],
		"mail elsewhere": [{answer | answer := conditions.email_to(["ann@a.example", "bob@b.example"], {"a.example"})}, "no"],
		"mail to two in one": [{answer | answer := conditions.email_to("ann@a.example,bob@b.example", {"a.example"})}, "unknown"],
		"sql that reads": [{answer | answer := conditions.sql_reads("select 1")}, "yes"],
		"sql that writes": [{answer | answer := conditions.sql_reads("drop table x")}, "no"],
		"sql that is odd": [{answer | answer := conditions.sql_reads("select 1 -- x")}, "unknown"],
	}
	said(answers) == want
}

test_success_sensitive_values_anywhere[note] if {
	some note, [value, want] in {
		"text": [{"a": ["SSN 123-45-6789"]}, true],
		"key": [{"123-45-6789": "x"}, true],
		"nothing": [{"a": "hello"}, false],
		"null": [null, false],
	}
	conditions.sensitive(value, {"ssn"}) == want
}

test_success_redactions_of_what_is_there if {
	both := [{"path": "/a/0", "replacement": "x"}, {"path": "/b", "replacement": "x"}]
	conditions.redactions_in({"a": ["text"]}, both) == [{"path": "/a/0", "replacement": "x"}]
}

# 2026-11-20 is a Friday.
test_success_hours[note] if {
	workdays := {"Monday", "Tuesday", "Wednesday", "Thursday", "Friday"}
	day := {"days": workdays, "from": 480, "to": 1080, "zone": "Europe/Berlin"}
	night := {"days": workdays, "from": 1080, "to": 480, "zone": "UTC"}
	some note, [window, instant, want] in {
		"in the day": [day, "2026-11-20T07:00:00Z", true],
		"a minute early": [day, "2026-11-20T06:59:59Z", false],
		"at the end": [day, "2026-11-20T17:00:00Z", false],
		"in summer": [day, "2026-07-17T06:00:00Z", true],
		"at the weekend": [day, "2026-11-21T10:00:00Z", false],
		"in the evening": [night, "2026-11-20T18:00:00Z", true],
		"past midnight": [night, "2026-11-21T07:59:00Z", true],
		"a day later": [night, "2026-11-22T07:59:00Z", false],
		"by day": [night, "2026-11-20T12:00:00Z", false],
	}
	conditions.within_hours(time.parse_rfc3339_ns(instant), window) == want
}
