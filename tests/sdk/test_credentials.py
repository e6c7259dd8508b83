"""What a metric's error must not tell: the credentials in the URLs and headers that it quotes."""

from __future__ import annotations

import time

import pytest

from nilometer.domain.metric_rules import MAX_ERROR_CHARS
from nilometer.sdk.credentials import REPLACED
from nilometer.sdk.loose_values import error_text

HIDDEN = "hidden-Value_1-2026"


@pytest.mark.parametrize(
    "text",
    [
        "Max retries exceeded with url: /maps/api/place?placeid=p1&key={} (Caused by …)",
        "url: /geocode/json?client=gme-{}&signature={}",
        "https://h/v1?API_KEY={}&q=1",
        "https://h/v1?q=1&amp;apikey={}",
        "https://h/?access_token={}#top",
        "https://b.s3.amazonaws.com/k?X-Amz-Credential={}&X-Amz-Signature={}",
        "https://storage.googleapis.com/k?X-Goog-Signature={}",
        "https://b.blob.core.windows.net/k?sv=2026&sig={}",
        "proxy?url=https%3A%2F%2Fh%2F%3Fkey%3D{}",
        "cannot reach https://ada:{}@proxy:3128/v1",
        "cannot reach redis://:{}@h:6379",
        "cannot reach postgresql://{}@h/db?password={}",
        "refused: {{'Authorization': 'Bearer {}'}}",
        "refused: Authorization: {}",
        '{{"api_key": "{}", "model": "gpt-4o-mini"}}',
        "headers {{'x-goog-api-key': b'{}'}}",
        "host=db user=u password={} dbname=d",
    ],
)
def test_a_credential_is_replaced(text: str) -> None:
    said = error_text(ConnectionError(text.format(*[HIDDEN] * 2)))
    assert HIDDEN not in said
    assert REPLACED in said
    assert error_text(said) == said  # as the background does, once more


@pytest.mark.parametrize(
    "key",
    [
        "sk-proj-" + "a1B2" * 8,
        "AIza" + "x1_-Y" * 7,
        "AKIA" + "ABCD1234" * 2,
        "eyJhbGciOi.eyJzdWIiOi.c2lnbmF0dXJl",
    ],
)
def test_a_key_of_a_known_shape_is_replaced_wherever_it_stands(key: str) -> None:
    assert (
        error_text(f"Illegal header value b'{key}\\n'") == f"Illegal header value b'{REPLACED}\\n'"
    )
    assert error_text(f"Illegal header value b'Bearer {key}'") == (
        f"Illegal header value b'Bearer {REPLACED}'"
    )


@pytest.mark.parametrize(
    "text",
    [
        "Error code: 429 - {'error': {'message': 'Rate limit: 3 tokens', 'type': 'tokens'}}",
        "max_tokens: 5000 > 4096, the maximum; see https://h/docs?page=2&keyword=pizza",
        "KeyError: 'key'",
        "no route to http://ada.example:8000/a@b",
        "Basic authentication is required",
    ],
)
def test_other_errors_stay_as_they_are(text: str) -> None:
    assert error_text(text) == text


@pytest.mark.parametrize(
    "secret", ["https://h/?key={}", "https://u:{}@host", "Bearer {}", "AIza{}" + "z" * 16]
)
def test_a_credential_that_the_end_cuts_in_two_is_replaced(secret: str) -> None:
    for place in range(MAX_ERROR_CHARS - 60, MAX_ERROR_CHARS + 5):
        text = "x" * (place - 1) + " " + secret.format(HIDDEN) + " and more" * 2000
        said = error_text(text)
        assert "hid" not in said
        assert said[: place - 1] == text[: place - 1][:MAX_ERROR_CHARS]
        assert len(said) <= MAX_ERROR_CHARS


def test_what_was_cut_does_not_come_back_when_a_credential_before_it_is_shorter() -> None:
    text = f"https://h/?key={'k' * 9000}&n=1" + "x" * 950 + " sk-" + "Q" * 5000
    assert error_text(text).endswith(f"x {REPLACED}")


@pytest.mark.parametrize("piece", ["&key=", "a", "?", "://", "://a@", "api_key ", "a-", "bearer "])
def test_any_text_takes_little_time(piece: str) -> None:
    begun = time.thread_time()
    error_text(piece * 20_000)
    assert time.thread_time() - begun < 0.5
