"""LiteLLM's door over HTTP: good payloads are kept, bad ones noted, secrets neither way."""

import gzip
import json
from typing import Any

import pytest
import requests

from nilometer.access.types import CaptureMode
from nilometer.domain import litellm_record
from nilometer.domain.litellm_record import LiteLLMRecord
from nilometer.log.port import LogUnavailable
from tests.capture.door import Door, new_uuid, open_door, refused

PATH = "/integrations/litellm"
SECRET = "swordfish"


def payload(**fields: Any) -> dict[str, Any]:
    """A payload with a secret in every place where LiteLLM has one."""
    known = {
        "id": "chatcmpl-1234567890abcdef",
        "litellm_call_id": new_uuid(),
        "call_type": "acompletion",
        "status": "success",
        "model": "gpt-4o-mini",
        "api_base": f"https://api.openai.com/v1?key={SECRET}",
        "cache_key": SECRET,
        "requester_ip_address": SECRET,
        "end_user": "someone",
        "messages": [{"role": "user", "content": "é漢😀"}],
        "response_cost": 0.000123,
        "hidden_params": {"additional_headers": {"x": SECRET}},
        "metadata": {
            "user_api_key_hash": SECRET,
            "user_api_key_auth_metadata": {"k": SECRET},
            "user_api_key_alias": "ci",
            "requester_ip_address": SECRET,
            "requester_metadata": {"headers": {"authorization": SECRET}},
        },
    }
    return known | fields


def post(door: Door, body: bytes, path: str = PATH, **headers: str) -> requests.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    known = {"Authorization": f"Bearer {door.key}", "Content-Type": "application/json"} | named
    return requests.post(
        f"http://127.0.0.1:{door.port}{path}", data=body, headers=known, timeout=30
    )


def record(door: Door) -> LiteLLMRecord:
    [envelope] = door.log.envelopes
    assert (envelope.door, envelope.project_id) == ("litellm", door.project)
    assert SECRET.encode() not in envelope.payload
    assert door.key.encode() not in envelope.payload
    return litellm_record.decode(envelope.payload)


def calls(door: Door) -> list[str]:
    return [json.loads(item.text)["litellm_call_id"] for item in record(door).items]


def lines(*items: Any) -> bytes:
    return b"\n".join(
        item if isinstance(item, bytes) else json.dumps(item).encode() for item in items
    )


@pytest.mark.parametrize("form", ["json_array", "ndjson", "single"])
@pytest.mark.parametrize("content_type", ["application/json", "application/x-ndjson"])
def test_every_form_is_kept_whatever_its_content_type_says(
    door: Door, form: str, content_type: str
):
    sent = [payload(), payload(status="failure")][: 1 if form == "single" else 2]
    body = json.dumps(sent).encode() if form == "json_array" else lines(*sent)
    response = post(door, body, Content_Type=content_type)
    assert response.status_code == 200
    assert response.json() == {"accepted": len(sent), "dead_lettered": 0, "errors": []}
    assert calls(door) == [each["litellm_call_id"] for each in sent]


def test_one_payload_may_stand_on_several_lines(door: Door):
    sent = payload()
    assert post(door, json.dumps(sent, indent=2).encode(), path=f"{PATH}/").status_code == 200
    assert calls(door) == [sent["litellm_call_id"]]


def test_content_names_and_costs_stay_and_secrets_do_not_enter_the_log(door: Door):
    sent = payload()
    assert post(door, json.dumps([sent]).encode()).status_code == 200
    [item] = record(door).items
    kept = json.loads(item.text)
    for name in ("messages", "response_cost", "end_user", "model", "id"):
        assert kept[name] == sent[name]
    assert kept["metadata"]["user_api_key_alias"] == "ci"
    assert kept["api_base"] == "https://api.openai.com/v1"


@pytest.mark.parametrize(
    ("bad", "fault"),
    [
        (None, "not_an_object"),
        (f'{{"user_api_key":"{SECRET}"}}', "not_an_object"),
        ({"metadata": {"user_api_key_hash": SECRET}}, "no_id"),
        ({"litellm_call_id": "", "id": 7}, "no_id"),
    ],
)
def test_a_bad_payload_is_noted_without_content_and_harms_no_other(
    door: Door, bad: Any, fault: str
):
    response = post(door, json.dumps([payload(), bad, payload()]).encode())
    assert response.status_code == 200
    answer = response.json()
    assert (answer["accepted"], answer["dead_lettered"]) == (2, 1)
    assert [error["index"] for error in answer["errors"]] == [1]
    assert [item.fault for item in record(door).items] == ["", fault, ""]


def test_a_broken_line_harms_no_other_line(door: Door):
    sent = [payload(), payload()]
    cut = f'{{"user_api_key":"{SECRET}'.encode()
    answer = post(door, lines(cut, sent[0], b"  ", sent[1])).json()
    assert answer["errors"] == [{"index": 0, "detail": "the line is not valid JSON"}]
    assert [item.fault for item in record(door).items] == ["not_json", "", ""]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'[{"id":"a"}', "not valid JSON"),
        (b'{"id":', "not valid JSON"),
        (b"[]", "the request holds none"),
        (b"[null]", "not a JSON object"),
        (b'{"a":1}', "neither litellm_call_id nor id"),
        (b"\xff", "not UTF-8"),
        (b"[" * 200 + b"]" * 200, "nested deeper"),
        (b"  ", "the request holds none"),
    ],
)
def test_a_body_without_any_payload_is_refused(door: Door, body: bytes, text: str):
    response = post(door, body)
    refused(door, response, 400, text)
    assert set(response.json()) == {"type", "code", "detail", "attr"}


def test_what_pythons_json_writes_is_taken(door: Door):
    sent = payload(model_parameters={"p": float("nan"), "q": 10**30, "r": "\ud83d"})
    assert post(door, json.dumps([sent]).encode()).status_code == 200
    [item] = record(door).items
    assert json.loads(item.text)["model_parameters"]["p"] == "NaN"
    assert item.text.decode()


def test_a_compressed_body_is_undone_and_another_encoding_refused(door: Door):
    body = json.dumps([payload()]).encode()
    refused(door, post(door, body, Content_Encoding="br"), 400, "Unsupported content-encoding")
    assert post(door, gzip.compress(body), Content_Encoding="gzip").status_code == 200
    assert len(record(door).items) == 1


def test_the_key_is_checked_before_the_body(door: Door):
    for key in ("", "Bearer nobodys-key-0123456789", "Basic abc"):
        refused(door, post(door, b"not json", Authorization=key), 401, "")
    other = requests.get(f"http://127.0.0.1:{door.port}{PATH}", timeout=30)
    assert (other.status_code, other.headers["Allow"]) == (405, "POST, OPTIONS")


def test_the_projects_rules_hold(access, directory):
    project = access.project(dropped=["someone"])
    with open_door(access, directory, project=project) as door:
        answer = post(door, json.dumps([payload()]).encode())
        assert (answer.status_code, answer.json()["accepted"]) == (200, 0)
        assert door.log.envelopes == []
        kept = payload(end_user="another")
        answer = post(door, json.dumps([payload(), kept]).encode())
        assert (answer.status_code, answer.json()["accepted"]) == (200, 1)
        assert calls(door) == [kept["litellm_call_id"]]
    for mode, status in ((CaptureMode.DROP, 200), (CaptureMode.OVER_QUOTA, 429)):
        with open_door(access, directory, project=access.project(mode)) as door:
            assert post(door, json.dumps([payload()]).encode()).status_code == status
            assert door.log.envelopes == []


def test_limits_hold(access, directory):
    limits: dict[str, Any] = {
        "max_batch_bytes": 4000,
        "max_batch_event_bytes": 1500,
        "max_batch_events": 3,
    }
    with open_door(access, directory, **limits) as door:
        large = payload(messages=SECRET * 200)
        answer = post(door, lines(payload(), large)).json()
        assert answer["errors"] == [{"index": 1, "detail": "it is larger than one payload may be"}]
        assert record(door).items[1].fault == "too_large"
        door.log.envelopes.clear()
        small = {"id": "a"}
        refused(door, post(door, lines(*[small] * 4)), 413, "at most 3 payloads")
        bomb = gzip.compress(b" " * 5000)
        refused(door, post(door, bomb, Content_Encoding="gzip"), 413, "maximum size")
        assert post(door, lines(*[small] * 3)).status_code == 200


def test_a_log_that_cannot_take_it_is_a_503(door: Door):
    door.log.error = LogUnavailable("down")
    response = post(door, json.dumps([payload()]).encode())
    assert response.status_code == 503
    assert response.headers["Retry-After"]
