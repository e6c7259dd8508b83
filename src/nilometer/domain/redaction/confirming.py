"""What a regular expression cannot say of a candidate: checksums, lengths, what stands around it.

Each takes the text (UTF-8), and where a candidate begins and ends; it gives the spans in it that
are meant. The work is bounded by the candidate's size.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

Span = tuple[int, int]

_GROUP = re.compile(rb"\d+")
# What the numbers of cards begin with: Visa, Mastercard, American Express, Diners, JCB, Discover,
# UnionPay, Maestro. A time in microseconds or nanoseconds begins with 1.
_ISSUERS = re.compile(rb"[456]|2[2-7]|3[04-9]")
_LEAST_DIGITS, _MOST_DIGITS = 13, 19
_MOST_GROUPS = 5000
# A doubled digit, its own digits added: the step of Luhn's checksum.
_DOUBLED = bytes.maketrans(b"0123456789", bytes((0, 2, 4, 6, 8, 1, 3, 5, 7, 9)))
_DIGITS = bytes.maketrans(b"0123456789", bytes(range(10)))
_WORD = re.compile(rb"[0-9A-Za-z_:]")

# Lengths of the IBAN registry (ISO 13616), by country.
_IBAN_LENGTHS = {
    length: frozenset(countries.split())
    for length, countries in {
        15: "NO",
        16: "BE",
        18: "DK FK FI FO GL NL SD",
        19: "MK SI",
        20: "AT BA EE KZ LT LU XK",
        21: "CH HR LI LV",
        22: "BG BH CR DE GB GE IE ME RS VA",
        23: "AE GI IL IQ OM SO TL",
        24: "AD CZ ES MD PK RO SA SE SK TN VG",
        25: "LY PT ST",
        26: "IS TR",
        27: "BI DJ FR GR IT MC MR SM",
        28: "AL AZ BY CY DO GT HU LB NI PL SV",
        29: "BR EG PS QA UA",
        30: "JO KW MU",
        31: "MT SC",
        32: "LC",
        33: "RU",
    }.items()
}
_LENGTH_OF = {
    country: length for length, countries in _IBAN_LENGTHS.items() for country in countries
}


def is_card(digits: bytes) -> bool:
    """Whether ASCII digits are the number of a card: its issuer, its length, Luhn's checksum."""
    if not _LEAST_DIGITS <= len(digits) <= _MOST_DIGITS or not _ISSUERS.match(digits):
        return False
    kept = digits[-1::-2].translate(_DIGITS)
    return (sum(kept) + sum(digits[-2::-2].translate(_DOUBLED))) % 10 == 0


def cards(text: bytes, start: int, end: int) -> Iterator[Span]:
    """The card numbers in groups of digits: written whole, or as 4-4-4-4(-1 to 3) and 4-6-5.

    Thousands of groups in one are not looked through: all of it is taken for cards.
    """
    groups = [match.span() for match in _GROUP.finditer(text, start, end)]
    if len(groups) > _MOST_GROUPS:
        yield start, end
        return
    at = 0
    while at < len(groups):
        taken = _card_from(text, groups, at)
        if taken:
            yield groups[at][0], groups[at + taken - 1][1]
        at += taken or 1


def _card_from(text: bytes, groups: list[Span], at: int) -> int:
    """How many groups from this one on are a card's number, 0 when none are: the most that are."""
    digits, cards = b"", 0
    for count, (first, last) in enumerate(groups[at : at + 5], 1):
        digits += text[first:last]
        if len(digits) > _MOST_DIGITS:
            break
        if len(digits) >= _LEAST_DIGITS and is_card(digits):
            cards = count
    return cards


def ibans(text: bytes, start: int, end: int) -> Iterator[Span]:
    """The IBAN that a candidate begins with: what follows it may look like a part of it."""
    length = _LENGTH_OF.get(text[start : start + 2].decode("ascii", "replace"))
    if length is None:
        return
    place, taken = start, bytearray()
    while place < end and len(taken) < length:
        if text[place] != 0x20:
            taken.append(text[place])
        place += 1
    if len(taken) == length and _is_iban(bytes(taken)) and not _WORD.match(text, place):
        yield start, place


def _is_iban(text: bytes) -> bool:
    """ISO 7064's checksum: letters are 10 to 35, and the first four stand last."""
    moved = (text[4:] + text[:4]).decode()
    return int("".join(str(int(character, 36)) for character in moved)) % 97 == 1


def ipv6_addresses(text: bytes, start: int, end: int) -> Iterator[Span]:
    """The candidate when it is an address: `std::vector` and `12:30:45` are none."""
    candidate = text[start:end]
    around = text[start - 1 : start] + text[end : end + 1] if start else text[end : end + 1]
    if not any(map(_is_digit, candidate)) or _WORD.search(around):
        return
    try:
        ipaddress.IPv6Address(candidate.decode("ascii", "replace"))
    except ValueError:
        return
    yield start, end


def _is_digit(byte: int) -> bool:
    return 0x30 <= byte <= 0x39
