"""Errors without what varies."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nilometer.conventions.error_text import MAX_CHARS, normalise_error

UUID = "6f1c9a4e-0b7d-4c55-9a1e-2d3c4b5a6978"


@pytest.mark.parametrize(
    ("text", "normalised"),
    [
        ("request req_9fA2 failed", "request <ID> failed"),
        ("REQ_9fA2", "<ID>"),
        (f"event {UUID} lost", "event <ID> lost"),
        (f"event {UUID.upper()} lost", "event <ID> lost"),
        ("at 2025-11-08T14:25:51.767Z", "at <TIMESTAMP>"),
        ("at 2025-11-08T14:25:51.7", "at <TIMESTAMP>"),
        ("at 2025-11-08T14:25:51Z", "at <N>-<N>-<N>T<N>:<N>:<N>Z"),
        ("projects/9/locations/us-west2/models/gemini-2 is gone", "projects/<PATH> is gone"),
        ("projects/9 is gone", "projects/<N> is gone"),
        ('"responseId":"h2sPacmZI4OW_-x"', '"responseId":"<RESPONSE_ID>"'),
        ('{"id":"oJf6-eVw", "a": 1}', '{"id": "<ID>", "a": <N>}'),
        ("tool_call_id='toolu_01LC' failed", "tool_call_id='<TOOL_CALL_ID>' failed"),
        ('tool_call_id="call_01LC" failed', "tool_call_id='<TOOL_CALL_ID>' failed"),
        ("no result for toolu_01Bj5f7R", "no result for <TOOL_ID>"),
        ("no output for function call call_edLii.", "no output for function call call_<CALL_ID>."),
        ("'user_id': 'user_32yQoB' blocked", "'user_id': 'user_<USER_ID>' blocked"),
        ("user_id 12 user_x", "user_id <N> user_x"),
        ("user_id     user_x", "user_id user_<USER_ID>"),
        ("<object at 0xfffced405130>", "<object at <OBJECT_ID>>"),
        ("ID='a1b2' missing", "id='<ID>' missing"),
        ('"tokenCount":7125', '"tokenCount":<TOKEN_COUNT>'),
        ('"tokenCount":  7125', '"tokenCount":<TOKEN_COUNT>'),
        ("project 123456789", "project <ID>"),
        ("project 12345678", "project <N>"),
        ("port 8080, status 429", "port <N>, status <N>"),
        ("  a \t b\n\nc  ", "a b c"),
        ("bad user_input in call_function", "bad user_input in call_function"),
        ("ſreq_\u212a", "ſreq_\u212a"),
        ("", ""),
        (" \n ", ""),
    ],
)
def test_what_varies_becomes_a_placeholder(text: str, normalised: str) -> None:
    assert normalise_error(text) == normalised


def test_the_most_specific_rule_wins_in_a_long_message() -> None:
    text = (
        "2025-11-08T14:25:51.767Z project 1234567890: "
        '{"id": "oJf6", "responseId":"abc1", "tokenCount":5000} for "req_a1" '
        "tool_call_id='toolu_X1' (status 429)"
    )
    assert normalise_error(text) == (
        "<TIMESTAMP> project <ID>: "
        '{"id": "<ID>", "responseId":"<RESPONSE_ID>", "tokenCount":<TOKEN_COUNT>} for "<ID>" '
        "tool_call_id='<TOOL_CALL_ID>' (status <N>)"
    )


PIECES = st.sampled_from(
    [
        *"a1_-/'\" \n<>.:=Z",
        "req_",
        "projects/",
        "/models/",
        '"id":',
        '"responseId":',
        '"tokenCount":',
        "tool_call_id='",
        "toolu_",
        "function call call_",
        "user_id",
        "user_",
        "0x",
        "id='",
        "123456789",
        "2025-11-08T14:25:51.767",
        UUID,
    ]
)


@given(st.lists(PIECES, max_size=40).map("".join) | st.text())
@example("user_id123456user_x")
def test_normalising_an_error_twice_is_normalising_it_once(text: str) -> None:
    once = normalise_error(text)
    assert normalise_error(once) == once


def test_only_the_beginning_of_a_long_error_counts() -> None:
    assert normalise_error("x" * MAX_CHARS + " tail") == "x" * MAX_CHARS
    assert len(normalise_error("1 " * MAX_CHARS)) <= MAX_CHARS
    assert normalise_error(normalise_error("1 " * MAX_CHARS)) == normalise_error("1 " * MAX_CHARS)


@pytest.mark.parametrize(
    "piece",
    [
        "projects/a/b",
        "projects/1/",
        "projects/a/b/c1",
        "user_id",
        "user_id    ",
        '"id":',
        '"id": ',
        '"id":"a',
        '"responseId":"',
        "tool_call_id='a",
        "id='",
        "req_",
        "0x",
        "12345678 ",
        "2025-11-08T14:25:51.",
        "0" * 8 + "-0000-0000-0000-",
        "function call call_",
        " \t",
        "1",
        "a",
        "-",
    ],
)
def test_a_hostile_error_takes_time_in_proportion_to_its_length(piece: str) -> None:
    def seconds(chars: int) -> float:
        text = (piece * (chars // len(piece) + 1))[:chars]
        runs = []
        for _ in range(5):
            start = time.perf_counter()
            normalise_error(text)
            runs.append(time.perf_counter() - start)
        return min(runs)

    # Ten times the text: 10 times the time when linear, 100 times when quadratic.
    assert seconds(10_000) < 40 * max(seconds(1_000), 20e-6)


def test_a_megabyte_of_error_costs_no_more_than_its_beginning() -> None:
    text, runs = "projects/a/b" * 1_000_000, list[float]()
    for _ in range(3):
        start = time.perf_counter()
        normalise_error(text)
        runs.append(time.perf_counter() - start)
    assert min(runs) < 0.5
