"""A short, repeatable run of the fuzzer's check; `make fuzz` searches for longer."""

import random

import pytest

from nilometer.capture import ai_form
from nilometer.capture.ai_form import AiForm
from tests.capture import form_check


def test_the_seeds_pass_and_some_of_them_are_whole_events():
    for seed in form_check.seeds():
        form_check.check(seed)
    outcomes = [form_check._read([seed[1:]]) for seed in form_check.seeds()]
    assert [isinstance(outcome, AiForm) for outcome in outcomes] == [True] * 4 + [False] * 2


def test_damaged_seeds_pass():
    chance = random.Random(20250701)
    seeds = form_check.seeds()
    pieces = [b"\r\n", b"--b", b"--", b'"', b"\0", b"\xff", b"{", b"Content-Length: 1\r\n"]
    for _ in range(3000):
        data = bytearray(chance.choice(seeds))
        for _ in range(chance.randint(1, 4)):
            start = chance.randrange(len(data))
            data[start : start + chance.randint(0, 12)] = chance.choice(pieces)
        form_check.check(bytes(data))


def test_a_reader_that_depends_on_the_chunks_is_found(monkeypatch):
    seed = form_check.seeds()[1]
    monkeypatch.setattr(ai_form.PartBody, "joined", lambda body: body.chunks[0])
    with pytest.raises(AssertionError, match="chunks made a difference"):
        form_check.check(seed)
