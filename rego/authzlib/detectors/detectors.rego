# METADATA
# title: Detectors of sensitive values in text
# description: |
#   Each class has a pattern in RE2, which is also the pattern of its redaction, and where a pattern alone would cry
#   wolf a check of the matches: Luhn for cards, mod 97 for IBAN, variety of characters for secrets that are known only
#   by the name they are assigned to. A detector is a net and not a wall: text that its writer means to hide (spelt out,
#   encrypted, split over calls) passes.
# scope: package
package authzlib.detectors

import data.authzlib.checksums

# METADATA
# title: The pattern of each class
# scope: document
patterns := {
	"aws_access_key": `(?:A3T[A-Z0-9]|ABIA|ACCA|AKIA|ASIA)[A-Z0-9]{16}`,
	"github_token": `gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{22,255}`,
	"slack_token": `xox[abeoprs]-[A-Za-z0-9-]{10,}|xapp-[A-Za-z0-9-]{10,}`,
	"jwt": `eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*`,
	"bearer_token": `(?i)bearer[ \t]+[a-z0-9._~+/-]{16,}=*`,
	"private_key": `(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|$)`,
	"assigned_secret": `(?i)(?:api[_-]?key|access[_-]?key|account[_-]?key|secret(?:[_-]?key)?|token|passw(?:or)?d|passphrase|pwd|credentials?)["']?[ \t]*(?:=|:|:=|=>)[ \t]*["']?[^\s"',;&]{10,}`,
	"payment_card": `(?:\b|[A-Za-z_])[2-6][0-9]{3}[ -]?(?:[0-9]{4}[ -]?[0-9]{4}[ -]?[0-9]{1,7}|[0-9]{6}[ -]?[0-9]{4,5})(?:\b|[A-Za-z_])`,
	"iban": `(?i)[a-z]{2}[0-9]{2}(?:[ -]?[a-z0-9]{4}){2,7}(?:[ -]?[a-z0-9]{1,3})?`,
	"ssn": `(?:\b|[A-Za-z_])(?:00[1-9]|0[1-9][0-9]|[1-57-8][0-9]{2}|6(?:[0-57-9][0-9]|6[0-57-9]))[ -](?:0[1-9]|[1-9][0-9])[ -](?:000[1-9]|00[1-9][0-9]|0[1-9][0-9]{2}|[1-9][0-9]{3})(?:\b|[A-Za-z_])`,
	"email": `[A-Za-z0-9._%+-]+@(?:[A-Za-z0-9-]+\.)+[A-Za-z]{2,63}`,
}

# METADATA
# title: The classes that are credentials
# scope: document
secrets := {
	"aws_access_key",
	"github_token",
	"slack_token",
	"jwt",
	"bearer_token",
	"private_key",
	"assigned_secret",
}

# METADATA
# title: A document that may hold one of the classes
# description: |
#   A cheap test that nearly every document fails and no document with a plainly written value of a class does. It
#   searches the document's JSON, keys included, for the hints of all classes at once.
# scope: document
suspected(document, classes) if _hinted(json.marshal(document), classes)

# METADATA
# title: The classes found in a text
# description: |
#   Returns those of the set `classes` that the text holds. A class that does not exist is found in every text, so that a
#   misspelt one is seen at once and lets nothing through.
# scope: document
found(text, classes) := (classes - _known) | {class |
	suspected(text, classes)
	some class in (classes & _known)
	regex.match(patterns[class], text)
	_confirmed(class, text)
}

_known := object.keys(patterns)

# What every text of some class has in it, in lower case and with 0 for each digit. One builtin looks for all of them.
_hinted(text, _) if {
	digits := {"1": "0", "2": "0", "3": "0", "4": "0", "5": "0", "6": "0", "7": "0", "8": "0", "9": "0"}
	folded := strings.replace_n(digits, lower(text))
	hints := {
		"a0t": "", "abia": "", "acca": "", "akia": "", "asia": "",
		"ghp_": "", "gho_": "", "ghu_": "", "ghs_": "", "ghr_": "", "github_pat_": "",
		"xox": "", "xapp-": "", "eyj": "", "bearer": "", "-----begin ": "",
		"key": "", "secret": "", "token": "", "passw": "", "passphrase": "", "pwd": "", "credential": "", "authorization": "",
		"00000000": "", "0000 0000": "", "0000-0000": "", "00-0000": "", "00 0000": "",
	}
	strings.replace_n(hints, folded) != folded
}

# A string that may be something in base64.
_hinted(text, _) if regex.match(`"[A-Za-z0-9+/]{20,}={0,2}"`, text)

_hinted(text, classes) if {
	"email" in classes
	contains(text, "@")
}

_hinted(_, classes) if count(classes - _known) > 0

# METADATA
# title: A secret by the name of its field
# description: Is true when the key names a credential and the value has the variety of one.
# scope: document
names_secret(key, value) if {
	is_string(key)
	regex.match(_secret_key, key)
	_varied(value)
}

_secret_key := `(?i)^(?:(?:aws[_-]?)?secret[_-]?access[_-]?key|(?:client[_-]?)?secret(?:[_-]?key)?|(?:api|access|private)[_-]?key|(?:(?:access|auth|bearer|id|refresh)[_-]?)?token|passw(?:or)?d|passphrase|pwd|authorization)$`

_confirmed("payment_card", text) if {
	some match in regex.find_n(patterns.payment_card, text, -1)
	checksums.luhn(regex.replace(match, `[^0-9]`, ""))
}

_confirmed("iban", text) if {
	some match in regex.find_n(patterns.iban, text, -1)
	checksums.iban(upper(regex.replace(match, `[ -]`, "")))
}

_confirmed("assigned_secret", text) if {
	some match in regex.find_n(patterns.assigned_secret, text, -1)
	_varied(regex.replace(match, `^[^:=]*[:=]+>?[ \t]*["']?`, ""))
}

_confirmed(class, _) if not class in {"payment_card", "iban", "assigned_secret"}

# Ten different characters, a digit among them: `password: see the handbook` is prose, `password=Xk29...` is not.
_varied(value) if {
	regex.match(`[0-9]`, value)
	count({character | some character in split(value, "")}) >= 10
}
