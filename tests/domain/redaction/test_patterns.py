"""What each built-in pattern finds, and what looks like it and is none."""

import time

import pytest

from nilometer.domain.redaction.patterns import BUILTINS, InvalidPattern, any_of, compiled
from tests.domain.redaction.rules import EVERY_PATTERN, redactor, text

KEY = "0123456789abcdefghijklmnopqrstuvwxyz"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----"

FOUND = {
    "email": ["ada@example.com", "ada.l+x@mail.example.co.uk", "jürgen@müller.de", "a@b.io"],
    "credit_card": [
        *("4111111111111111", "4111 1111 1111 1111", "4111-1111-1111-1111"),
        *("378282246310005", "3782 822463 10005", "5555555555554444", "6011000990139424"),
        *("4222222222222", "6304000000000000", "3530111333300000"),
    ],
    "iban": [
        "DE89370400440532013000",
        "DE89 3704 0044 0532 0130 00",
        "GB29 NWBK 6016 1331 9268 19",
    ],
    "phone": ["+4917012345678", "+49 170 123 456 78", "+1 (415) 555-2671", "+44.20.7946.0958"],
    "ipv4": ["10.0.0.1", "255.255.255.255", "203.0.113.77"],
    "ipv6": ["2001:db8::8a2e:370:7334", "::1", "fe80:0:0:0:0:0:0:1"],
    "us_ssn": ["123-45-6789", "078-05-1120"],
    "api_key": [
        *(f"sk-{KEY}", f"sk-ant-api03-{KEY}", f"sk-proj-{KEY}", "AKIAIOSFODNN7EXAMPLE"),
        *(f"ghp_{KEY}", f"github_pat_{KEY}", f"xoxb-1234-{KEY}", f"hf_{KEY}", f"nlm_proj_{KEY}"),
        *(f"AIza{KEY[:35]}", f"sk_live_{KEY}", f"glpat-{KEY}"),
    ],
    "jwt": ["eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl"],
    "bearer_token": [f"Bearer {KEY}", f"bearer {KEY}", f"Basic {KEY}=="],
    "private_key": [PEM, PEM.replace("RSA ", ""), PEM.replace("RSA", "OPENSSH"), PEM[:40]],
}
NOT_FOUND = {
    "email": ["ada at example.com", "@example.com", "ada@", "ada@example", "a @b.com"],
    "credit_card": [
        *("4111111111111112", "1700000000000000", "1700000000000000000", "4111 1111 1111"),
        *("41111111111111111111", "x4111111111111111", "４１１１１１１１１１１１１１１１"),
    ],
    "iban": ["DE89370400440532013001", "XX89370400440532013000", "DE8937040044053201300"],
    "phone": ["017012345678", "+0123456789", "1+4917012345678", "+1 2 3"],
    "ipv4": ["256.1.1.1", "1.2.3", "1.2.3.x"],
    "ipv6": ["std::vector", "12:30:45", "a::b", "x2001:db8::1", "1:2:3"],
    "us_ssn": [
        "000-12-3456",
        "666-12-3456",
        "900-12-3456",
        "123-00-4567",
        "123-45-0000",
        "123456789",
    ],
    "api_key": ["sk-short", "task-force-one-two-three-four", "AKIA123", "ghp_x"],
    "jwt": ["eyJhbGciOi", "a.b.c"],
    "bearer_token": ["bearer of bad news", "Bearer x"],
    "private_key": ["-----BEGIN PUBLIC KEY-----\nx\n-----END PUBLIC KEY-----"],
}


def cases(table):
    return [
        pytest.param(name, each, id=f"{name}: {each[:30]}")
        for name in table
        for each in table[name]
    ]


def test_every_built_in_pattern_has_cases():
    assert set(FOUND) == set(NOT_FOUND) == set(BUILTINS)


@pytest.mark.parametrize(("name", "secret"), cases(FOUND))
@pytest.mark.parametrize("around", ["{}", "see {} there", "({})", '"{}",', "漢字 {} ünd", "\n{}\n"])
def test_what_a_pattern_finds_is_replaced_and_what_is_around_it_stays(name, secret, around):
    told, counts = text(redactor(name), around.format(secret))
    rest = "" if name == "private_key" and secret == PEM[:40] else around.partition("{}")[2]
    assert (told, counts) == (around.partition("{}")[0] + f"[redacted:{name}]" + rest, {name: 1})


@pytest.mark.parametrize(("name", "given"), cases(NOT_FOUND))
def test_what_only_looks_like_it_stays_as_it_is(name, given):
    assert text(redactor(name), f"see {given} there") == (f"see {given} there", {})


def test_numbers_that_stand_before_a_card_do_not_hide_it():
    given = "12 4111 1111 1111 1111 and 0000 4111 1111 1111 1111 7"
    told, counts = text(redactor("credit_card"), given)
    assert told == "12 [redacted:credit_card] and 0000 [redacted:credit_card] 7"
    assert counts == {"credit_card": 2}


def test_words_behind_an_iban_are_no_part_of_it():
    told, _ = text(redactor("iban"), "DE89 3704 0044 0532 0130 00 AND MORE")
    assert told == "[redacted:iban] AND MORE"


def test_rules_that_overlap_leave_nothing_of_either():
    found = redactor("bearer_token", "jwt", {"name": "tail", "regex": r"c2ln\w+ and \w+"})
    told, _ = text(found, f"Bearer {FOUND['jwt'][0]} and more words")
    assert told == "[redacted:bearer_token] words"


def test_what_matches_only_beside_a_replacement_is_replaced_too():
    told, counts = text(redactor("email", "us_ssn"), "ada@example.com123-45-6789, and more")
    assert told == "[redacted:email][redacted:us_ssn], and more"
    assert counts == {"email": 1, "us_ssn": 1}


def test_more_matches_than_are_counted_take_the_whole_text():
    told, counts = text(redactor("us_ssn"), "123-45-6789 " * 10_001)
    assert (told, counts) == ("[redacted:us_ssn]", {"us_ssn": 1})
    assert text(redactor("us_ssn"), "123-45-6789 " * 9_999)[1] == {"us_ssn": 9_999}


def test_a_pattern_of_ones_own_is_replaced_by_its_name():
    own = redactor(
        {"name": "employee", "regex": r"(?i)emp-(\d+)"}, {"name": "city", "regex": "Zü\\pL+"}
    )
    assert text(own, "emp-12 of Zürich") == (
        "[redacted:employee] of [redacted:city]",
        {"employee": 1, "city": 1},
    )


@pytest.mark.parametrize(
    "regex", ["(abc", "(?<=a)b", r"(a)\1", "a{1001}", "(?:(?:a{999}){9})", "[z-a]", "\ud800"]
)
def test_what_re2_cannot_do_is_no_pattern(regex):
    with pytest.raises(InvalidPattern) as refused:
        compiled(regex)
    assert len(str(refused.value)) < 300


def test_patterns_that_do_not_fit_into_one_are_asked_one_by_one():
    large = ["(?:" + "|".join(f"w{i}x{{{900 + i}}}" for i in range(4)) + ")"] * 50
    assert any_of(large) is None or any_of(large).search(b"nothing") is None
    own = [{"name": f"p{i}", "regex": rf"secret{i}[a-z]{{1,900}}"} for i in range(50)]
    assert text(redactor(*own), "a secret7abc b")[0] == "a [redacted:p7] b"


HOSTILE = {
    "nested repetition": "a" * 5_000_000 + "!",
    "mails that begin": "a@" * 2_500_000,
    "mails": "a@b.co " * 700_000,
    "digits": "4" * 5_000_000,
    "cards that are none": "4444 " * 1_000_000,
    "quotes": '"' * 5_000_000,
    "objects": '{"password":' * 400_000,
    "names": "'password':" * 400_000,
    "keys that begin": "-----BEGIN PRIVATE KEY-----" * 180_000,
    "replacements": "[redacted:email]" * 300_000,
    "backslashes": "\\" * 5_000_000,
    "plus signs": "+1" * 2_500_000,
}


@pytest.mark.parametrize("given", HOSTILE.values(), ids=HOSTILE)
def test_no_text_of_five_megabytes_holds_the_server_up(given):
    own = [{"name": "nested", "regex": "(a+)+$"}, {"name": "alternatives", "regex": "(a|aa)+b"}]
    found = redactor(*EVERY_PATTERN, *own, keys=["password"])
    started = time.process_time()
    text(found, given)
    # Most take a twentieth of a second; backtracking would take longer than anybody waits.
    assert time.process_time() - started < 10


@pytest.mark.parametrize("regex", [".{1,1000}" * 20, r"\pL" * 150, r"\pL{1,200}" * 20])
def test_what_would_compile_to_too_much_is_refused_before_it_is_compiled(regex):
    began = time.thread_time()
    with pytest.raises(InvalidPattern, match="too large"):
        compiled(regex)
    assert time.thread_time() - began < 0.1
