"""What the door answers: forms of errors, CORS, parts that are down."""

import re
from pathlib import Path

import pytest
import requests

from nilometer.blobs.types import BlobsFull, BlobsUnavailable
from nilometer.errors import NilometerError
from nilometer.log.port import LogFull, RecordTooLarge
from tests.capture.door import (
    event,
    form,
    open_door,
    refused,
    whole_event,
)

MODEL = {"$ai_model": "test"}
PARSING = "failed to parse request: "


def test_errors_are_json_for_a_client_that_prefers_it(door):
    response = door.post(form(event(uuid="x"), MODEL), headers={"Accept": "application/json"})
    assert response.headers["Content-Type"] == "application/json"
    fields = response.json()
    assert fields["detail"].startswith(f"{PARSING}Invalid UUID format: ")
    assert (fields["type"], fields["code"], fields["attr"]) == (
        "validation_error",
        "invalid_uuid",
        "uuid",
    )


@pytest.mark.parametrize(
    ("accept", "json_wanted"),
    [
        ("application/json, text/plain, */*", True),
        ("text/html, application/json;q=0.5", True),
        ("application/*", True),
        ("*/*", False),
        ("text/plain, application/json;q=0.9", False),
        ("application/json;q=0", False),
        ("application/json;q=x", False),
        ("", False),
    ],
)
def test_the_accept_header_chooses_the_form_of_errors(door, accept, json_wanted):
    response = door.post(form(event(uuid="x"), MODEL), headers={"Accept": accept})
    assert (response.headers["Content-Type"] == "application/json") is json_wanted


@pytest.mark.parametrize("path", ["/i/v0/ai", "/i/v0/ai/", "/ai", "/ai/"])
def test_every_path_of_the_door_accepts(door, path):
    url = door.url.replace("/i/v0/ai", path)
    assert path in door.app.paths
    assert door.post(form(whole_event()), url=url).text.startswith('{"accepted_parts":[{"name":')


def test_options_answers_a_browsers_preflight(door):
    headers = {"Origin": "https://app.test", "Access-Control-Request-Headers": "authorization,x-a"}
    response = requests.options(door.url, headers=headers)
    assert (response.status_code, response.text) == (200, '{"status":"Ok"}')
    assert response.headers["Access-Control-Allow-Origin"] == "https://app.test"
    assert response.headers["Access-Control-Allow-Credentials"] == "true"
    assert response.headers["Access-Control-Allow-Methods"] == "GET, POST, OPTIONS"
    assert response.headers["Access-Control-Allow-Headers"] == "authorization,x-a"
    origin = {"Origin": "https://app.test"}
    refused_answer = requests.post(door.url, data=b"x", headers=origin)
    assert refused_answer.headers["Access-Control-Allow-Origin"] == "https://app.test"
    assert "Access-Control-Allow-Origin" not in requests.options(door.url).headers


def test_a_405_says_what_is_allowed(door):
    assert requests.patch(door.url).headers["Allow"] == "POST, OPTIONS"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (LogFull("disk /secret/path is full", retry_after=7), "transient error, please retry"),
        (RuntimeError("secret"), "internal server error"),
        (NilometerError("secret"), "internal server error"),
    ],
)
def test_a_log_that_fails_is_a_5xx_without_internals(door, error, text, caplog):
    door.log.error = error
    response = door.post(form(whole_event()))
    assert (response.status_code, response.text) == (500 if "internal" in text else 503, text)
    assert response.headers.get("Retry-After") == ("7" if isinstance(error, LogFull) else None)
    assert "secret" not in caplog.text
    assert door.app._admission.in_flight == 0


def test_a_record_that_the_log_is_too_small_for_is_a_413_with_its_size(door):
    door.log.error = RecordTooLarge("the request is 9,000 bytes as a record of the log")
    response = door.post(form(whole_event()))
    assert response.status_code == 413
    assert "9,000 bytes as a record" in response.text
    assert "Retry-After" not in response.headers
    assert door.app._admission.in_flight == 0


@pytest.mark.parametrize(
    ("error", "said"), [(BlobsUnavailable, "does not answer"), (BlobsFull, "is full")]
)
def test_a_blob_upload_that_fails_is_a_503_and_no_event(
    access, directory, monkeypatch, error, said
):
    with open_door(access, directory) as door:

        async def put(*_: object) -> None:
            raise error("the bucket's secret name", retry_after=3)

        monkeypatch.setattr(door.blobs, "put", put)
        response = door.post(form(event(), MODEL, x=("text/plain", b"x")))
        refused(door, response, 503, f"service unavailable: blob storage {said}")
        assert response.headers["Retry-After"] == "3"
        assert "secret" not in response.text
        assert door.post(form(event(), MODEL)).status_code == 200


def test_the_page_of_the_door_lists_every_code_that_it_answers():
    root = Path(__file__).parents[2]
    sources = [path.read_text() for path in (root / "src/nilometer/capture").glob("*.py")]
    codes = {code for text in sources for code in re.findall(r'code(?:: str)? ?= ?"(\w+)"', text)}
    page = (root / "docs/capture.md").read_text()
    assert len(codes) > 20
    unlisted = {code for code in codes if f"`{code}`" not in page}
    assert unlisted == {"invalid_request"}  # never sent as is
