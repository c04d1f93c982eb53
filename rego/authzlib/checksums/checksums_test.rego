package authzlib.checksums_test

import data.authzlib.checksums

# Test numbers that card schemes and the IBAN registry publish.
test_success_luhn[number] if {
	some number in {"4111111111111111", "5555555555554444", "378282246310005", "4222222222222", "6304000000000000000"}
	checksums.luhn(number)
}

test_fail_luhn[note] if {
	some note, number in {
		"one digit wrong": "4111111111111112",
		"two digits swapped": "5555555555545444",
		"too short": "42424242424",
		"too long": "41111111111111111111",
		"separators": "4111 1111 1111 1111",
		"letters": "4111111111111a11",
		"empty": "",
	}
	not checksums.luhn(number)
}

test_success_iban[account] if {
	some account in {"GB82WEST12345698765432", "DE89370400440532013000", "NO9386011117947", "FR1420041010050500013M02606"}
	checksums.iban(account)
}

test_success_iban_followed_by_words if checksums.iban("ES9121000418450200051332PAID")

test_fail_iban[note] if {
	some note, account in {
		"one digit wrong": "GB82WEST12345698765433",
		"two digits swapped": "DE89370400440532010300",
		"too short": "GB82WEST123456987654",
		"unknown country": "ZZ82WEST12345698765432",
		"only a country": "DE",
		"lower case": "gb82west12345698765432",
		"empty": "",
	}
	not checksums.iban(account)
}
