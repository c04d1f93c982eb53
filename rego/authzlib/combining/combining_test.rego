package authzlib.combining_test

import data.authzlib.combining

allow := {"effect": "allow", "rule": "r_allow", "reason": "granted"}

deny := {"effect": "deny", "rule": "r_deny", "reason": "forbidden", "message": "No."}

redaction := {"path": "/a", "replacement": "[REDACTED:x]"}

sanitize := {
	"effect": "sanitize",
	"rule": "r_sanitize",
	"reason": "secret",
	"obligations": {"redactions": [redaction]},
}

approval := {"approvers": ["finance"], "quorum": 1, "ttl_s": 900}

approve := {
	"effect": "approval_needed",
	"rule": "r_approve",
	"reason": "large",
	"obligations": {"approval": approval},
}

flagged(outcome) := object.union(outcome, {"mode": "flag"})

test_success_one_allow if {
	combining.decide({allow}, "read") == {
		"effect": "allow",
		"mode": "block",
		"reason": "granted",
		"message": "",
		"rules": ["r_allow"],
		"risk": "read",
		"tags": {"overruled": []},
	}
}

# The short form for one plain allow must say what the general form says.
test_success_short_and_general_form_agree if {
	general := combining.decide({object.union(allow, {"message": ""})}, "read")
	combining.decide({allow}, "read") == general
}

test_success_precedence[note] if {
	some note, [outcomes, effect] in {
		"allow": [{allow}, "allow"],
		"sanitize beats allow": [{allow, sanitize}, "sanitize"],
		"approval_needed beats sanitize": [{allow, sanitize, approve}, "approval_needed"],
		"deny beats approval_needed": [{allow, sanitize, approve, deny}, "deny"],
		"deny beats allow": [{allow, deny}, "deny"],
		"deny alone": [{deny}, "deny"],
	}
	combining.decide(outcomes, "write").effect == effect
}

test_fail_nothing_without_an_allow[note] if {
	some note, outcomes in {
		"g1 no outcome": set(),
		"sanitize opens nothing": {sanitize},
		"approval opens nothing": {approve},
		"both open nothing": {sanitize, approve},
		"a watched deny opens nothing": {flagged(deny)},
	}
	decision := combining.decide(outcomes, "read")
	decision.effect == "deny"
	decision.reason == "no_rule_allows"
	decision.mode == "block"
	object.keys(decision) & {"redactions", "approval"} == set()
}

test_fail_an_unknown_effect_denies[note] if {
	some note, effect in {"other case": "Deny", "misspelt": "aprove", "g1 number": 1, "g1 boolean": true, "null": null}
	decision := combining.decide({allow, {"effect": effect, "rule": "r", "reason": "odd"}}, "read")
	decision.effect == "deny"
	decision.reason == "odd"
}

test_fail_an_absent_effect_denies if {
	combining.decide({allow, {"rule": "r", "reason": "odd"}}, "read").effect == "deny"
}

test_fail_an_outcome_without_reason_or_rule_decides_nothing[field] if {
	some field in {"reason", "rule"}
	not _allows({object.remove(allow, [field])})
}

_allows(outcomes) if combining.decide(outcomes, "read").effect == "allow"

test_success_g2_rules_that_disagree_make_one_decision if {
	other := object.union(deny, {"rule": "r_other", "reason": "also_forbidden", "message": "Nor this."})
	decision := combining.decide({allow, deny, other}, "write")
	decision.reason == "also_forbidden"
	decision.message == "Nor this."
	decision.rules == ["r_deny", "r_other"]
	decision.tags.overruled == [allow]
}

test_success_overruled_keeps_no_obligations if {
	overruled := combining.decide({allow, sanitize, deny}, "write").tags.overruled
	{outcome.reason | some outcome in overruled} == {"granted", "secret"}
	every outcome in overruled {
		not outcome.obligations
	}
}

test_fail_a_deny_carries_no_obligation if {
	decision := combining.decide({allow, sanitize, approve, deny}, "write")
	object.keys(decision) == {"effect", "mode", "reason", "message", "rules", "risk", "tags"}
}

# The decision's reader takes redactions with `sanitize` only, and an approval with `approval_needed` only.
test_success_obligations_fit_the_effect[note] if {
	some note, [outcomes, expected] in {
		"sanitize": [{allow, sanitize}, {"redactions"}],
		"approval": [{allow, sanitize, approve}, {"approval"}],
		"watched deny": [{allow, flagged(sanitize), flagged(approve), flagged(deny)}, set()],
		"watched approval": [{allow, flagged(sanitize), flagged(approve)}, {"approval"}],
	}
	object.keys(combining.decide(outcomes, "write")) & {"redactions", "approval"} == expected
}

test_success_a_plain_allow_carries_its_obligations if {
	charged := object.union(allow, {"obligations": {"charges": [{"budget": "calls", "amount": 1}]}})
	combining.decide({charged}, "read").charges == [{"budget": "calls", "amount": 1}]
}

test_success_watched[note] if {
	some note, [outcomes, effect] in {
		"deny": [{allow, flagged(deny)}, "deny"],
		"sanitize": [{allow, flagged(sanitize)}, "sanitize"],
		"approval": [{allow, flagged(approve)}, "approval_needed"],
		"the strongest of them": [{allow, flagged(sanitize), flagged(deny)}, "deny"],
	}
	decision := combining.decide(outcomes, "read")
	decision.mode == "flag"
	decision.effect == effect
}

test_fail_a_watched_rule_weakens_no_blocking_one[note] if {
	some note, [outcomes, effect] in {
		"deny": [{allow, deny, flagged(sanitize)}, "deny"],
		"sanitize under a watched deny": [{allow, sanitize, flagged(deny)}, "sanitize"],
		"approval under a watched deny": [{allow, approve, flagged(deny)}, "approval_needed"],
		"the same rule twice": [{allow, deny, flagged(deny)}, "deny"],
	}
	decision := combining.decide(outcomes, "read")
	decision.mode == "block"
	decision.effect == effect
}

test_fail_watched_redactions_are_not_applied if {
	watched := flagged(object.union(sanitize, {"obligations": {"redactions": [{"path": "/b", "replacement": "x"}]}}))
	combining.decide({allow, sanitize, watched}, "read").redactions == [redaction]
}

test_fail_unknown_modes_block if {
	decision := combining.decide({allow, object.union(deny, {"mode": "log"})}, "read")
	decision.effect == "deny"
	decision.mode == "block"
}

test_fail_obligations_that_exclude_each_other_deny if {
	security := object.union(approve, {"rule": "r2", "obligations": {"approval": {"approvers": ["security"]}}})
	decision := combining.decide({allow, approve, security}, "write")
	decision.effect == "deny"
	decision.reason == "obligations_conflict"
}

# The set of outcomes has no order, and an outcome more can narrow a decision, but only an allow can widen it.
test_success_more_outcomes_never_widen[note] if {
	some first in {deny, sanitize, approve}
	some second in {deny, sanitize, approve}
	note := concat(" then ", [first.effect, second.effect])
	_rank[combining.decide({allow, first, second}, "read").effect] >= _rank[combining.decide({allow, first}, "read").effect]
}

_rank := {"allow": 0, "sanitize": 1, "approval_needed": 2, "deny": 3}
