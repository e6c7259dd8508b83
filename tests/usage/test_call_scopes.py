"""Whom and what a call was for, from an event's properties."""

import pytest

from nilometer.pipeline.call_scopes import scopes


def test_every_scope_becomes_a_column():
    properties = {
        "$ai_user_id": 7,
        "$ai_job_id": "nightly",
        "$ai_batch_id": "b-7",
        "$ai_environment": "production",
        "$ai_developer": "ada",
        "$ai_repository": "acme/app",
        "$ai_operation": "code_review",
        "$ai_api_calls": 3,
        "$ai_tags": ["b", "a", "a", 1, ""],
    }
    assert scopes("$ai_generation", properties, "someone") == {
        "user_id": "7",
        "job_id": "nightly",
        "batch_id": "b-7",
        "environment": "production",
        "developer": "ada",
        "repository": "acme/app",
        "operation_name": "code_review",
        "api_calls": 3,
        "tags": ["a", "b"],
    }


@pytest.mark.parametrize(
    ("name", "operation"), [("$ai_generation", "completion"), ("$ai_embedding", "embedding")]
)
def test_an_event_without_scopes_is_one_call_of_its_distinct_id(name, operation):
    assert scopes(name, {}, "ada") == {
        "operation_name": operation,
        "api_calls": 1,
        "user_id": "ada",
    }


def test_a_user_that_is_null_is_no_user():
    assert scopes("$ai_generation", {"$ai_user_id": None}, "machine")["user_id"] == ""


def test_what_cannot_be_a_scope_is_left_out():
    properties = {"$ai_job_id": ["x"], "$ai_batch_id": "y" * 2000, "$ai_api_calls": -1}
    properties |= {"$ai_operation": 5, "$ai_tags": "a"}
    found = scopes("$ai_embedding", properties, "ada")
    assert found == {"operation_name": "embedding", "api_calls": 1, "user_id": "ada"}


def test_tags_of_an_object_are_names_and_values():
    properties = {"$ai_tags": {"team": "search", "n": 1}}
    assert scopes("$ai_generation", properties, "ada")["tags"] == ["team:search"]
