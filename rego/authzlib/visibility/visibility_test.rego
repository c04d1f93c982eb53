package authzlib.visibility_test

import data.authzlib.visibility

table := {"a": {"s": ["t"]}}

listed := {"phase": "list", "agent": {"id": "a"}, "tool": {"server": "s", "name": "t"}}

test_success_visible if visibility.visible(table) with input as listed

test_success_arguments_change_nothing[note] if {
	some note, args in {"none": {}, "some": {"amount": 1e9}, "null": null}
	visibility.visible(table) with input as object.union(listed, {"args": args})
}

test_fail_visible[note] if {
	some note, change in {
		"phase call": {"phase": "call"},
		"phase result": {"phase": "result"},
		"other agent": {"agent": {"id": "b"}},
		"c19 namesake on another server": {"tool": {"server": "s2"}},
		"other tool": {"tool": {"name": "t2"}},
	}
	not visibility.visible(table) with input as object.union(listed, change)
}

test_fail_arguments_open_nothing if {
	not visibility.visible({}) with input as object.union(listed, {"args": {"tool": "t"}})
}

test_fail_visible_g4_missing_field[field] if {
	some field, _ in listed
	not visibility.visible(table) with input as object.remove(listed, [field])
}
