r"""What counts as a secret or as personal in a text: the default mask list.

Decides where in a text a secret, a payment card, an IBAN, a US social security number or an e-mail address stands,
and which keys name a secret. Must never miss in `suspicious` what `find` would find: a text that `suspicious` passes
is recorded as it is. Over-masking is the safe side; a pattern errs towards it.

Trusts nothing. All patterns are RE2 over UTF-8 bytes, so time is linear in the text whatever the caller sends.

INVARIANT: the part of a pattern that `suspicious` looks for holds no character that JSON escapes (control characters,
quote, backslash) and assumes nothing about the character before it, since an escape such as `\n` puts a letter there.
What is found in a decoded text therefore stands verbatim in its JSON. `tests/properties/test_masking.py` proves it.
"""

from __future__ import annotations

import functools
import re
import string
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import re2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_OPTIONS: Final = re2.Options()
# Bytes as they come: a pattern then means the same on JSON and on the decoded text, and no offset is converted.
_OPTIONS.encoding = re2.Options.Encoding.LATIN1

_SECRET_NAME: Final = (
    rb"(?:pass(?:word|wd|phrase|code)s?|pwd|secrets?|token|authorization|credentials?|cookie|jwt|cvv2?|cvc|ssn"
    rb"|(?:access|api|auth|encryption|private|secret|signing)[-_. ]?keys?)"
)


SHORTEST_CARD, LONGEST_CARD = 13, 19
"""Digits of a card's number: the shortest in use, and the most that ISO/IEC 7812-1 allows."""


class Span(NamedTuple):
    """Bytes `start` to `end` of a text are of class `kind`."""

    start: int
    end: int
    kind: str


class ExhaustedError(Exception):
    """A text has more candidates than are worth their time; it must be masked whole."""


@dataclass(slots=True)
class Effort:
    """Candidates that may still be looked at: what a caller sends must not buy seconds of our time."""

    left: int

    def spend(self, candidates: int = 1) -> None:
        """Take some, or raise ExhaustedError."""
        if self.left < candidates:
            raise ExhaustedError
        self.left -= candidates


@dataclass(frozen=True, slots=True)
class _Detector:
    """One class. `loose` is what `suspicious` looks for; `exact` has the value as its group 1."""

    kind: str
    loose: bytes
    exact: bytes
    refine: Callable[[bytes, Span, Effort], Iterator[Span]] | None = None


def _plain(kind: str, pattern: bytes) -> _Detector:
    return _Detector(kind, pattern, rb"(" + pattern + rb")")


def _assigned(text: bytes, value: Span, _: Effort) -> Iterator[Span]:
    """The value after `password=`, unless it is one of our own marks: `[MASKED:api_key:hmac-sha256:...`."""
    if not text.startswith((b"[MASKED:", b"hmac-sha256:"), value.start):
        yield value


def _digits(text: bytes, run: Span, effort: Effort) -> Iterator[Span]:
    """Cards and social security numbers in a run of digit groups such as `4111 1111 1111 1111 12`.

    Windows begin and end at group boundaries, so that neither a number before nor an expiry date after a card
    shifts it out of sight.
    """
    groups = [Span(*match.span(), "") for match in _DIGIT_GROUP.finditer(text, run.start, run.end)]
    effort.spend(len(groups))
    index = 0
    while index < len(groups):
        found = _social_security(text, groups[index : index + 3]) or _payment_card(
            text, groups[index : index + LONGEST_CARD]
        )
        if found:
            yield found
        end = found.end if found else groups[index].end
        index = next((later for later in range(index + 1, len(groups)) if groups[later].start >= end), len(groups))


def _social_security(text: bytes, groups: list[Span]) -> Span | None:
    """Area, group and serial as the SSA issues them: none all zero, area not 666."""
    if [group.end - group.start for group in groups] != [3, 2, 4]:
        return None
    area, *rest = (text[group.start : group.end] for group in groups)
    if area in {b"000", b"666"} or rest[0] == b"00" or rest[1] == b"0000":
        return None
    return Span(groups[0].start, groups[-1].end, "us_ssn")


def _payment_card(text: bytes, groups: list[Span]) -> Span | None:
    """The longest number from the first group on that has a brand's prefix and length and passes Luhn."""
    digits, found = b"", None
    if text[groups[0].start] not in _BRANDS:
        return None
    for group in groups:
        digits += text[group.start : group.end]
        if len(digits) > LONGEST_CARD:
            break
        if len(digits) >= SHORTEST_CARD and _CARD.fullmatch(digits) and luhn(digits):
            found = Span(groups[0].start, group.end, "payment_card")
    return found


def luhn(digits: bytes) -> bool:
    """Whether ASCII digits pass the check of ISO/IEC 7812-1 annex B."""
    return (sum(digits[-2::-2].translate(_DOUBLED)) + sum(digits[-1::-2].translate(_SINGLE))) % 10 == 0


# The value of an ASCII digit, and the sum of the digits of twice its value, by the digit's own byte.
_SINGLE: Final = bytes(max(byte - ord("0"), 0) % 10 for byte in range(256))
_DOUBLED: Final = bytes(value * 2 - 9 * (value > 4) for value in _SINGLE)  # noqa: PLR2004


# Length of an account number by country: ISO 13616 registry.
_IBAN_LENGTHS: Final = {
    entry[:2].encode(): int(entry[2:])
    for entry in (  # noqa: SIM905 - a table reads better in rows
        "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29 "
        "ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 "
        "LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 "
        "PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 "
        "YE30"
    ).split()
}


def _iban(text: bytes, run: Span, _: Effort) -> Iterator[Span]:
    """The account number that the run begins with; the run may have swallowed words that follow it."""
    length = _IBAN_LENGTHS.get(text[run.start : run.start + 2])
    if length is None:
        return
    end, spaced = run.start, run.start + length
    while spaced != end:  # spaces do not count, and behind them may stand more
        end, spaced = spaced, run.start + length + text.count(b" ", run.start, spaced)
    compact = text[run.start : end].replace(b" ", b"")
    if end <= run.end and not text[end : end + 1].isalnum() and mod97(compact) == 1:
        yield Span(run.start, end, "iban")


def mod97(account: bytes) -> int:
    """The remainder that ISO 7064 MOD 97-10 wants to be 1; letters count from 10, the first four move to the end."""
    return int(b"".join([_ACCOUNT_DIGITS[byte] for byte in account[4:] + account[:4]])) % 97


_ACCOUNT_DIGITS: Final = {
    ord(character): b"%d" % int(character, 36) for character in string.digits + string.ascii_uppercase
}

_BRANDS: Final = b"23456"
"""What the numbers of `_CARD` begin with."""
# Python's own engine: these are linear too, and a call of it costs a tenth of one into RE2 on a few digits.
_DIGIT_GROUP: Final = re.compile(rb"[0-9]+")
_CARD: Final = re.compile(
    rb"4(?:\d{12}|\d{15}|\d{18})|5\d{15}|2[2-7]\d{14}|3[47]\d{13}|3[0689]\d{12}|35\d{14,17}|6\d{15,18}"
)

# Order settles which class a stretch gets when two detectors claim it.
_DETECTORS: Final = (
    _Detector(
        "private_key",
        rb"-----BEGIN [0-9A-Z ]{0,32}PRIVATE KEY",
        rb"(?s)(-----BEGIN [0-9A-Z ]{0,32}PRIVATE KEY.*?(?:-----END [0-9A-Z ]{0,32}PRIVATE KEY[A-Z ]*-----|\z))",
    ),
    _plain("jwt", rb"eyJ[0-9A-Za-z_-]{8,}\.[0-9A-Za-z_-]{8,}\.[0-9A-Za-z_-]*"),
    _Detector("bearer_token", rb"(?i:bearer) [0-9A-Za-z._~+/=-]{16}", rb"(?i:bearer) ([0-9A-Za-z._~+/=-]{16,})"),
    _plain("aws_access_key", rb"A(?:KIA|SIA|BIA|CCA)[0-9A-Z]{16}"),
    _plain("github_token", rb"(?:gh[oprsu]_[0-9A-Za-z]{36,}|github_pat_[0-9A-Za-z_]{22,})"),
    _plain("slack_token", rb"(?:xox[a-z]-[0-9A-Za-z-]{10,}|xapp-[0-9A-Za-z-]{10,})"),
    _plain("slack_webhook", rb"hooks\.slack\.com/(?:services|workflows|triggers)/[0-9A-Za-z/]{16,}"),
    _plain(
        "api_key",
        rb"(?:AIza[0-9A-Za-z_-]{35}|[rs]k_(?:live|test)_[0-9A-Za-z]{16,}|sk-[0-9A-Za-z_-]{20,}"
        rb"|glpat-[0-9A-Za-z_-]{20,}|npm_[0-9A-Za-z]{36,}|pypi-[0-9A-Za-z_-]{32,})",
    ),
    _Detector(
        "url_password",
        rb"://[^\x00-\x20/:@\"\\]*:[^\x00-\x20/@\"\\]+@",
        rb"://[^\x00-\x20/:@\"\\]*:([^\x00-\x20/@\"\\]+)@",
    ),
    _Detector(
        "secret",
        rb"(?i:" + _SECRET_NAME + rb")\\*[\"']?(?:\s|\\+[fnrt])*[:=]",
        rb"(?i:" + _SECRET_NAME + rb")\\*[\"']?\s*[:=]\s*(?i:(?:bearer|basic) )?\\*[\"']?"
        rb"([^\x00-\x20\"'&,;\\\])}]{4,})",
        _assigned,
    ),
    _plain("email", rb"[0-9A-Za-z!#$%*+.^_~\x80-\xff-]+@(?:[0-9A-Za-z\x80-\xff-]+\.)+[A-Za-z\x80-\xff]{2,}"),
    _Detector(
        "iban",
        rb"[A-Z]{2}[0-9]{2}(?: ?[0-9A-Z]){11}",
        rb"(?:^|[^0-9A-Za-z])([A-Z]{2}[0-9]{2}(?: ?[0-9A-Z]){11,30})",
        _iban,
    ),
    _Detector(
        "digits",
        rb"[0-9]{3}[- ][0-9]{2}[- ][0-9]{4}|(?:^|[^0-9]|\\u[0-9a-fA-F]{4})[2-6](?:[- ]?[0-9]){12}",
        rb"([0-9](?:[- ]?[0-9]){8,})",
        _digits,
    ),
)
# These begin anew at each character and take a bounded look: as linear in Python's own engine, and at a third the cost.
_PYTHONS_OWN: Final = frozenset({"iban", "digits"})
_EXACT: Final = tuple(
    (detector, re.compile(detector.exact) if detector.kind in _PYTHONS_OWN else re2.compile(detector.exact, _OPTIONS))
    for detector in _DETECTORS
)

# JSON that could spell one of the above in another way: any escape that orjson does not write (also one level down,
# in a text that is JSON itself), a number with an exponent, a body in base64.
_DISGUISES: Final = rb"\\u(?:00[2-9a-fA-F]|0[1-9a-fA-F]|[1-9a-fA-F])|\\/|[0-9][eE]\+?1[2-9]|raw_?[bB]ody"


def _set(*patterns: bytes) -> Any:  # noqa: ANN401 - re2 ships no types
    compiled = re2.Set.SearchSet(_OPTIONS)
    for pattern in patterns:
        compiled.Add(pattern)
    compiled.Compile()
    return compiled


DISGUISE: Final = "disguise"
"""What `kinds` says where a document may spell something in another way than its texts do."""
_LOOSE: Final = [detector.loose for detector in _DETECTORS]
_KINDS: Final = (*(detector.kind for detector in _DETECTORS), DISGUISE)
_SUSPICIOUS: Final = _set(*_LOOSE, _DISGUISES)
_SUSPECT: Final = re2.compile(b"|".join(b"(?:" + loose + b")" for loose in [*_LOOSE, _DISGUISES]), _OPTIONS)
_SECRET_KEY: Final = _set(rb"(?i)" + _SECRET_NAME + rb"$")


def suspicious(document: bytes) -> bool:
    """Whether JSON (or a text) may hold something to mask. One linear scan: 2 us for 700 bytes."""
    return _SUSPICIOUS.Match(document) is not None


def kinds(document: bytes) -> frozenset[str]:
    """What JSON may hold, by class; empty where it is not `suspicious`. The same one scan."""
    return frozenset([_KINDS[index] for index in _SUSPICIOUS.Match(document) or ()])


def next_suspect(document: bytes, start: int) -> int | None:
    """Where the last byte of the next suspicious stretch stands, from `start` on."""
    match = _SUSPECT.search(document, start)
    return match.end() - 1 if match else None


class KeyTraits(NamedTuple):
    """What a member's name tells: its value is a secret (`client_secret`, `dbPassword`), or it may itself be one."""

    names_secret: bool
    suspicious: bool


@functools.lru_cache(maxsize=4096)  # documents share their keys; bounded, as a caller may invent them
def key_traits(key: str) -> KeyTraits:
    """Judge a key once."""
    encoded = key.encode()
    return KeyTraits(_SECRET_KEY.Match(encoded) is not None, suspicious(encoded))


def find(text: bytes, effort: Effort) -> list[Span]:
    """What is to be masked in a decoded text, in order and without overlaps.

    Raises:
        ExhaustedError: the text has more candidates than `effort` allows.
    """
    found: list[Span] = []
    for index in sorted(_SUSPICIOUS.Match(text) or ()):
        if index == len(_EXACT):
            break  # a disguise in JSON; here the text stands undisguised
        detector, pattern = _EXACT[index]
        found += _scan(detector, pattern, text, effort, tuple(found))
    chosen: list[Span] = []
    # `sorted` is stable, so of two that begin together the longer wins, then the earlier detector.
    for span in sorted(found, key=lambda span: (span.start, -span.end)):
        if not chosen or span.start >= chosen[-1].end:
            chosen.append(span)
        elif span.end > chosen[-1].end:
            chosen[-1] = chosen[-1]._replace(end=span.end)
    return chosen


def _scan(
    detector: _Detector,
    pattern: Any,  # noqa: ANN401 - re2 ships no types
    text: bytes,
    effort: Effort,
    masked: tuple[Span, ...],
) -> Iterator[Span]:
    """What one detector finds outside of what is masked already: within it, nothing would change."""
    position = 0
    while match := pattern.search(text, position):
        effort.spend()
        span = Span(match.start(1), match.end(1), detector.kind)
        if any(known.start <= span.start and span.end <= known.end for known in masked):
            position = span.end
            continue
        found = [span] if detector.refine is None else list(detector.refine(text, span, effort))
        yield from found
        # A candidate that was refused may hide a real one that begins inside it ("AB12 DE89 3704 ...").
        position = span.end if found or detector.kind == "digits" else span.start + 1
