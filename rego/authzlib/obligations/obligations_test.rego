package authzlib.obligations_test

import data.authzlib.obligations

finance := {"approvers": ["finance", "board"], "quorum": 1, "ttl_s": 900}

security := {"approvers": {"board", "security"}, "quorum": 2, "ttl_s": 300}

first := {"path": "/a", "replacement": "x"}

second := {"path": "/b", "pattern": "p", "replacement": "y"}

test_success_merged[note] if {
	some note, [asked, expected] in {
		"nothing": [[], {}],
		"empty": [[{}, {}], {}],
		"redactions add up, each once": [
			[{"redactions": [second, first]}, {"redactions": {first}}],
			{"redactions": [first, second]},
		],
		"charges add up per budget": [
			[
				{"charges": [{"budget": "calls", "amount": 1}, {"budget": "eur", "amount": 5}]},
				{"charges": [{"budget": "calls", "amount": 1}]},
			],
			{"charges": [{"budget": "calls", "amount": 2}, {"budget": "eur", "amount": 5}]},
		],
		"an approval satisfies all": [
			[{"approval": finance}, {"approval": security}],
			{"approval": {"approvers": ["board"], "quorum": 2, "ttl_s": 300}},
		],
		"headers": [
			[{"headers": {"set": {"x-a": "1"}}}, {"headers": {"set": {"x-b": "2"}, "remove": ["x-c"]}}],
			{"headers": {"set": {"x-a": "1", "x-b": "2"}, "remove": ["x-c"]}},
		],
		"tags": [[{"tags": {"a": 1}}, {"tags": {"b": 2}}], {"tags": {"a": 1, "b": 2}}],
	}
	obligations.merged(asked) == expected
}

# The decision's reader refuses unknown keys; dropping them here would hide the mistake.
test_fail_merged_hides_no_unknown_key if obligations.merged([{"redaction": [first]}]) == {"redaction": [[first]]}

test_success_compatible[note] if {
	some note, asked in {
		"nothing": [],
		"one approval": [{"approval": finance}],
		"approvals with a common group": [{"approval": finance}, {"approval": security}],
		"one header, one value": [{"headers": {"set": {"X-A": "1"}}}, {"headers": {"set": {"x-a": "1"}}}],
		"several headers": [{"headers": {"set": {"x-a": "1", "x-b": "2"}}}],
	}
	obligations.compatible(asked)
}

test_fail_compatible[note] if {
	some note, asked in {
		"no common approvers": [{"approval": {"approvers": ["finance"]}}, {"approval": {"approvers": ["security"]}}],
		"no approvers": [{"approval": {"approvers": []}}],
		"g1 approvers that are no list": [{"approval": {"approvers": "finance"}}],
		"g4 approvers absent": [{"approval": {}}],
		"one header, two values": [{"headers": {"set": {"x-a": "1"}}}, {"headers": {"set": {"x-a": "2"}}}],
		"one header, two spellings": [{"headers": {"set": {"X-A": "1", "x-a": "2"}}}],
	}
	not obligations.compatible(asked)
}
