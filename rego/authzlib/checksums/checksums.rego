# METADATA
# title: Checksums of payment cards and bank accounts
# scope: package
# related_resources:
#   - ref: https://www.iso.org/standard/70484.html
#     description: ISO/IEC 7812-1, annex B (Luhn)
#   - ref: https://www.iso.org/standard/81090.html
#     description: ISO 13616-1 (IBAN)
package authzlib.checksums

# A digit's share of the Luhn sum, at even and at odd distance from the end.
_shares := [
	{"0": 0, "1": 1, "2": 2, "3": 3, "4": 4, "5": 5, "6": 6, "7": 7, "8": 8, "9": 9},
	{"0": 0, "1": 2, "2": 4, "3": 6, "4": 8, "5": 1, "6": 3, "7": 5, "8": 7, "9": 9},
]

# METADATA
# title: A payment card number
# description: Is true for 13 to 19 digits, no separators, that pass the Luhn check.
# scope: document
luhn(digits) if {
	regex.match(`^[0-9]{13,19}$`, digits)
	sum([_shares[distance % 2][digit] | some distance, digit in split(strings.reverse(digits), "")]) % 10 == 0
}

# METADATA
# title: A bank account number
# description: |
#   Is true when the text (upper case, no separators) begins with an IBAN of its country's length whose check digits are
#   right. What follows the IBAN is not looked at.
# scope: document
iban(text) if {
	account := substring(text, 0, _iban_lengths[substring(text, 0, 2)])
	rearranged := concat("", [substring(account, 4, -1), substring(account, 0, 4)])
	to_number(concat("", [_iban_digits(character) | some character in split(rearranged, "")])) % 97 == 1
}

# A to Z stand for 10 to 35.
_iban_digits(character) := character if {
	contains("0123456789", character)
} else := format_int(indexof("ABCDEFGHIJKLMNOPQRSTUVWXYZ", character) + 10, 10)

_iban_lengths := {
	"AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BI": 27, "BR": 29,
	"BY": 28, "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DJ": 27, "DK": 18, "DO": 28, "EE": 20, "EG": 29,
	"ES": 24, "FI": 18, "FK": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28,
	"HN": 28, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20,
	"LB": 28, "LC": 32, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19,
	"MN": 20, "MR": 27, "MT": 31, "MU": 30, "NI": 28, "NL": 18, "NO": 15, "OM": 23, "PK": 24, "PL": 28, "PS": 29,
	"PT": 25, "QA": 29, "RO": 24, "RS": 22, "RU": 33, "SA": 24, "SC": 31, "SD": 18, "SE": 24, "SI": 19, "SK": 24,
	"SM": 27, "SO": 23, "ST": 25, "SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20,
	"YE": 30,
}
