package authzlib.detectors_test

import data.authzlib.detectors

every_class := object.keys(detectors.patterns)

# Credentials are put together here, so that no scanner takes this file for a leak.
letters := "Zx9Qw8Er7Ty6Ui5Op4As3Df2Gh1Jk0LmNbVc"

samples := {
	"aws_access_key": {
		"key": concat("", ["AKIA", "IOSFODNN7EXAMPLE"]),
		"temporary key": concat("", ["id:ASIA", "IOSFODNN7EXAMPLE."]),
		"older key": concat("", ["A3TX", "IOSFODNN7EXAMPLE"]),
		"glued to a word": concat("", ["xAKIA", "IOSFODNN7EXAMPLEx"]),
	},
	"github_token": {
		"classic": concat("", ["ghp_", letters]),
		"fine-grained": concat("", ["github_pat_", letters]),
	},
	"slack_token": {
		"bot": concat("", ["xoxb-", "123456789012-abcdef"]),
		"app": concat("", ["xapp-", "1-A111-222-abcdef"]),
	},
	"jwt": {"signed": concat(".", ["eyJhbGciOiJFUzI1NiJ9", "eyJzdWIiOiJhZ2VudCJ9", "c2ln"])},
	"bearer_token": {
		"header": concat(" ", ["Authorization: Bearer", letters]),
		"lower case": concat(" ", ["bearer", letters]),
	},
	"private_key": {
		"whole": "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----",
		"rsa": "a -----BEGIN RSA PRIVATE KEY-----\nMIIB\n-----END RSA PRIVATE KEY----- b",
		"cut off": "-----BEGIN EC PRIVATE KEY-----\nMIIB",
		"pgp": "-----BEGIN PGP PRIVATE KEY BLOCK-----\nabc\n-----END PGP PRIVATE KEY BLOCK-----",
	},
	"assigned_secret": {
		"environment": concat("", ["AWS_SECRET_ACCESS_KEY=", letters]),
		"yaml": concat("", ["password: ", letters]),
		"json": concat("", [`{"client_secret": "`, letters, `"}`]),
		"query": concat("", ["https://a.example/?api-key=", letters, "&b=c"]),
	},
	"payment_card": {
		"plain": "card 4111111111111111.",
		"spaces": "4111 1111 1111 1111 12/27",
		"dashes": "5555-5555-5555-4444",
		"amex": "3782 822463 10005",
		"13 digits": "4222222222222",
		"after other digits": "20 4111 1111 1111 1111",
		"glued to a word": "card4111111111111111x",
	},
	"iban": {
		"plain": "DE89370400440532013000",
		"groups": "to GB82 WEST 1234 5698 7654 32, please",
		"lower case": "de89 3704 0044 0532 0130 00",
		"followed by a word": "ES91 2100 0418 4502 0005 1332 PAID",
	},
	"ssn": {
		"dashes": "SSN: 123-45-6789",
		"spaces": "123 45 6789",
		"glued to a word": "ssn_123-45-6789x",
	},
	"email": {"address": "write to ann.b+c@mail.acme.example!"},
}

test_success_found[note] if {
	some class, texts in samples
	some label, text in texts
	note := concat(": ", [class, label])
	class in detectors.found(text, every_class)
}

test_success_redaction_leaves_none_of_it[note] if {
	some class, texts in samples
	some label, text in texts
	note := concat(": ", [class, label])
	not class in detectors.found(regex.replace(text, detectors.patterns[class], ""), every_class)
}

test_fail_found_in_other_classes[note] if {
	some class in {"payment_card", "iban", "ssn", "email", "slack_token", "github_token"}
	some label, text in samples[class]
	note := concat(": ", [class, label])
	detectors.found(text, every_class - {class}) == set()
}

test_fail_found[note] if {
	some note, text in {
		"card with a wrong check digit": "4111 1111 1111 1112",
		"card that no scheme issues": "1111111111111117",
		"telephone number": "+44 20 7946 0958",
		"time stamp": "1795168800000000000",
		"uuid": "123e4567-e89b-12d3-a456-426614174000",
		"iban with a wrong check digit": "DE88 3704 0044 0532 0130 00",
		"ssn of area 000": "000-45-6789",
		"ssn of area 666": "666-45-6789",
		"ssn of area 9xx": "912-45-6789",
		"ssn of group 00": "123-00-6789",
		"ssn of serial 0000": "123-45-0000",
		"date": "2026-11-20",
		"version": "token: 1.2.3",
		"prose about a password": "Your password: see the handbook",
		"a repeated character": "password=1111111111111111",
		"public key": "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----",
		"short bearer": "the bearer of news",
		"at sign": "meet @ noon",
		"two parts of a jwt": "eyJhbGciOiJFUzI1NiJ9.eyJz",
		"empty": "",
	}
	detectors.found(text, every_class) == set()
}

test_fail_found_in_no_class if detectors.found("4111111111111111", set()) == set()

test_success_an_unknown_class_is_found_everywhere if detectors.found("harmless", {"payment_cards"}) == {"payment_cards"}

test_success_names_secret[key] if {
	some key in {"password", "API-Key", "client_secret", "aws_secret_access_key", "access_token", "Authorization"}
	detectors.names_secret(key, letters)
}

test_fail_names_secret[note] if {
	some note, [key, value] in {
		"cursor": ["next_page_token", letters],
		"longer name": ["password_hint", letters],
		"prose": ["password", "see the handbook"],
		"short": ["token", "abc123"],
		"empty": ["token", ""],
	}
	not detectors.names_secret(key, value)
}
