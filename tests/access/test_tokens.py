"""Tokens fit the capture contract and give nothing away."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nilometer.access import tokens
from nilometer.access.types import KeyKind


@pytest.mark.parametrize(
    ("kind", "prefix"), [(KeyKind.PROJECT, "nlm_proj_"), (KeyKind.PERSONAL, "nlm_user_")]
)
def test_a_token_fits_the_capture_contract(kind, prefix):
    made = {tokens.generate(kind) for _ in range(200)}
    assert len(made) == 200
    for token in made:
        assert token.startswith(prefix)
        assert token.isascii()
        assert token.isprintable()
        assert " " not in token
        assert len(token) == 52 <= tokens.MAX_LENGTH


def test_a_token_holds_256_random_bits():
    body = tokens.generate(KeyKind.PROJECT).removeprefix("nlm_proj_")
    assert len(body) * 6 >= 256


def test_only_the_sha256_is_kept():
    assert tokens.digest("abc") == hashlib.sha256(b"abc").hexdigest()


@given(st.text())
def test_what_cannot_be_a_token_is_refused_without_repeating_it(text):
    if text.isascii() and len(text) <= 64:
        assert len(tokens.digest(text)) == 64
    else:
        with pytest.raises(ValueError, match=r"^no token is like this$"):
            tokens.digest(text)


def test_a_mask_tells_keys_apart_and_keeps_the_rest_back():
    token = tokens.generate(KeyKind.PERSONAL)
    mask = tokens.mask(token)
    assert mask == f"nlm_user_{token[9:13]}…{token[-4:]}"
    assert len(mask) <= 32


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=16, max_size=64))
def test_nothing_of_a_token_that_an_operator_chose_is_shown(token):
    assert tokens.mask(token) == "(given by operator)"
