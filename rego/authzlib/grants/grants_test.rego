package authzlib.grants_test

import data.authzlib.grants

table := {
	"billing-agent": {"bank": ["transfer_payment"], "*": ["ping"]},
	"team/*": {"files": ["docs/*", "meta.*"]},
	"*": {"catalogue": ["search"]},
	"auditor": {"bank": ["*"]},
	"careless": {"bank": ["read_*", "a*/b"]},
}

test_success_covers[note] if {
	some note, [agent, server, name] in {
		"exact": ["billing-agent", "bank", "transfer_payment"],
		"any server": ["billing-agent", "elsewhere", "ping"],
		"any agent": ["anyone", "catalogue", "search"],
		"any tool": ["auditor", "bank", "transfer_payment"],
		"any tool, with segments": ["auditor", "bank", "a.b/c"],
		"below a slash": ["team/a", "files", "docs/read"],
		"two below a slash": ["team/a", "files", "docs/read/page"],
		"below a dot": ["team/a", "files", "meta.size"],
		"below in the agent, deep": ["team/a/b", "files", "docs/read"],
	}
	grants.covers(table, agent, {"server": server, "name": name})
}

test_fail_covers[note] if {
	some note, [agent, server, name] in {
		"other agent": ["support-agent", "bank", "transfer_payment"],
		"c19 namesake on another server": ["billing-agent", "bank2", "transfer_payment"],
		"longer name": ["billing-agent", "bank", "transfer_payment2"],
		"shorter name": ["billing-agent", "bank", "transfer_paymen"],
		"c15 other case": ["billing-agent", "bank", "Transfer_Payment"],
		"c15 look-alike letter": ["billing-agent", "bank", "tr\u0430nsfer_payment"],
		"e10 longer agent": ["billing-agent2", "bank", "transfer_payment"],
		"the prefix itself": ["team/a", "files", "docs"],
		"the prefix with its separator": ["team/a", "files", "docs/"],
		"other separator": ["team/a", "files", "docs.read"],
		"inside a segment": ["team/a", "files", "docs2/read"],
		"an agent that is only the prefix": ["team", "files", "docs/read"],
		"an asterisk within a segment is no wildcard": ["careless", "bank", "read_document"],
		"an asterisk in the middle is no wildcard": ["careless", "bank", "ax/b"],
		"empty name": ["auditor", "bank", ""],
		"empty agent": ["", "catalogue", "search"],
		"number for a name": ["auditor", "bank", 7],
		"list for an agent": [["auditor"], "bank", "ping"],
	}
	not _covers(agent, server, name)
}

_covers(agent, server, name) if grants.covers(table, agent, {"server": server, "name": name})

test_fail_covers_g4_missing_field[field] if {
	tool := {"server": "bank", "name": "transfer_payment"}
	some field, _ in tool
	incomplete := object.remove(tool, [field])
	not grants.covers(table, "billing-agent", incomplete)
}

test_fail_covers_without_table if not grants.covers({}, "billing-agent", {"server": "bank", "name": "transfer_payment"})

test_success_patterns if grants.patterns("a.b/c") == {"a.b/c", "*", "a.*", "a.b/*"}

test_success_patterns_of_a_plain_name if grants.patterns("read_document") == {"read_document", "*"}

test_success_an_asterisk_in_a_name_covers_no_more if {
	# A tool that calls itself `docs/*` is covered where every tool below docs is, and nowhere else.
	grants.patterns("docs/*") == {"docs/*", "*"}
}

test_success_misleading_is_empty if grants.misleading(object.remove(table, ["careless"])) == set()

test_fail_misleading_names_what_is_no_wildcard if grants.misleading(table) == {"read_*", "a*/b"}
