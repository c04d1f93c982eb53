package authzlib.paths_test

import data.authzlib.paths

test_success_confined[note] if {
	some note, path in {
		"the root itself": "/docs",
		"below": "/docs/a.txt",
		"deep": "/docs/2026/q1/report final.pdf",
		"a dot file": "/docs/.profile",
		"dots within a name": "/docs/a..b",
		"a name that begins with dots": "/docs/..a",
		"other letters": "/docs/größe.txt",
		"relative root": "shared/a.txt",
	}
	paths.confined(path, ["/docs", "shared"])
}

test_fail_confined[note] if {
	some note, path in {
		"other root": "/etc/passwd",
		"parent": "/docs/../etc/passwd",
		"parent at the end": "/docs/..",
		"parent of a relative root": "shared/../a",
		"a leading parent": "../docs/a",
		"current folder": "/docs/./a",
		"only a dot": ".",
		"a parent that some file systems trim": "/docs/.. /a",
		"three dots": "/docs/.../a",
		"empty segment": "/docs//a",
		"two leading slashes": "//docs/a",
		"trailing slash": "/docs/",
		"sibling with the root as a prefix": "/docs-private/a",
		"percent-encoded parent": "/docs/%2e%2e/etc",
		"percent-encoded slash": "/docs%2fa",
		"doubly encoded": "/docs/%252e%252e/a",
		"overlong encoding": "/docs/%c0%ae%c0%ae/a",
		"backslash parent": "/docs\\..\\etc",
		"backslash": "\\docs\\a",
		"nul": "/docs/a\u0000.txt",
		"line break": "/docs/a\n",
		"delete character": "/docs/a\u007f",
		"drive": "C:/docs/a",
		"alternate stream": "/docs/a.txt:hidden",
		"home folder": "~/docs/a",
		"full-width dots": "/docs/\uff0e\uff0e/a",
		"one-dot leader": "/docs/\u2024\u2024/a",
		"full-width slash": "/docs\uff0fa",
		"division slash": "/docs\u2215a",
		"file url": "file:///docs/a",
		"other case": "/Docs/a",
		"relative for an absolute root": "docs/a",
		"absolute for a relative root": "/shared/a",
		"empty": "",
		"slash": "/",
		"space": " ",
		"g1 number": 5,
		"g1 null": null,
		"g1 list": ["/docs/a"],
		"g1 object": {"path": "/docs/a"},
	}
	not paths.confined(path, ["/docs", "shared"])
}

_argument_confined if paths.confined(input.args.path, ["/docs"])

test_fail_confined_without_roots if not paths.confined("/docs/a", [])

test_fail_confined_g4_absent if {
	not _argument_confined with input as {"args": {}}
}

test_success_confined_by_the_root_folder if paths.confined("/etc/hosts", ["/"])

test_success_a_trailing_slash_of_a_root_means_nothing if paths.confined("/docs/a", ["/docs/"])
