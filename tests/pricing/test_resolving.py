"""Which model a name means: explicit, and never by substring."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nilometer.pricing import Resolved, Unresolved, resolve
from nilometer.pricing.book import current
from nilometer.pricing.matching import rules_of
from nilometer.pricing.names import bases

KNOWN = [
    ("anthropic", "claude-opus-4-5", "anthropic/claude-opus-4-5"),
    ("anthropic", "claude-opus-4-5-20251101", "anthropic/claude-opus-4-5"),
    ("anthropic", "claude-opus-4-20250514", "anthropic/claude-opus-4-0"),
    ("anthropic", "claude-3-5-sonnet-latest", "anthropic/claude-3-5-sonnet"),
    ("claude", "Claude-Sonnet-4-5 ", "anthropic/claude-sonnet-4-5"),
    (None, "anthropic/claude-sonnet-4-5-20250929", "anthropic/claude-sonnet-4-5"),
    (None, "claude-3-5-sonnet-20241022", "anthropic/claude-3-5-sonnet"),
    ("openai", "gpt-4o", "openai/gpt-4o"),
    ("openai", "openai/gpt-4o-2024-08-06", "openai/gpt-4o"),
    ("openai", "gpt-4o-2024-05-13", "openai/gpt-4o-2024-05-13"),
    ("openai.chat", "gpt-5.2-20251211", "openai/gpt-5.2"),
    ("openai", "gpt-5-nano-2025-08-07", "openai/gpt-5-nano"),
    ("openai", "ft:gpt-4o-mini-2024-07-18:acme::x1", "openai/ft:gpt-4o-mini"),
    ("openai", "ft:gpt-4o-2024-08-06:acme:name:x1", "openai/ft:gpt-4o"),
    (None, "ft:gpt-3.5-turbo-0125:acme::x1", "openai/ft:gpt-3.5-turbo-"),
    ("azure", "gpt-4o-mini-2024-07-18.ft-0123abc", "openai of azure"),
    ("azure", "azure/gpt-4o-2024-11-20", "azure/gpt-4o"),
    ("azure.ai.openai", "o4-mini", "azure/o4-mini"),
    (None, "azure/o3-mini", "azure/o3-mini"),
    (
        "bedrock",
        "us.anthropic.claude-opus-4-5-20251101-v1:0",
        "aws/regional.anthropic.claude-opus-4-5-v1:0",
    ),
    (
        "aws.bedrock",
        "global.anthropic.claude-opus-4-5-20251101-v1:0",
        "aws/global.anthropic.claude-opus-4-5-v1:0",
    ),
    (
        None,
        "bedrock/us-east-1/anthropic.claude-3-haiku-20240307-v1:0",
        "aws/regional.anthropic.claude-3-haiku-20240307-v1:0",
    ),
    (None, "bedrock/converse/us.amazon.nova-pro-v1:0", "aws/amazon.nova-pro-v1:0"),
    (None, "amazon.nova-lite-v1:0", "aws/amazon.nova-lite-v1:0"),
    (
        "bedrock",
        "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-sonnet-4-20250514-v1:0",
        "aws/regional.anthropic.claude-sonnet-4-20250514-v1:0",
    ),
    (None, "vertex_ai/claude-sonnet-4-5@20250929", "google/claude-sonnet-4-5"),
    ("vertex_ai", "claude-3-5-sonnet-v2@20241022", "google/claude-3-5-sonnet"),
    ("vertex_ai", "claude-opus-4@20250514", "google/claude-4-opus"),
    ("bedrock", "us.amazon.nova-pro-v1:0:300k", "aws/amazon.nova-pro-v1:0"),
    ("bedrock", "anthropic.claude-opus-5-v1:0", "aws/regional.anthropic.claude-opus-5"),
    (None, "gemini/gemini-2.5-flash", "google/gemini-2.5-flash"),
    ("gcp.gemini", "models/gemini-2.5-pro", "google/gemini-2.5-pro"),
    ("vertex_ai", "publishers/google/models/gemini-2.0-flash-001", "google/gemini-2.0-flash"),
    (None, "gemini-2.5-pro-preview-05-06", "google/gemini-2.5-pro"),
    (None, "openrouter/anthropic/claude-sonnet-4.5", "openrouter/anthropic/claude-sonnet-4.5"),
    ("openrouter", "openai/gpt-4o", "openrouter/openai/gpt-4o"),
    ("litellm", "anthropic/claude-sonnet-4-5", "anthropic/claude-sonnet-4-5"),
    (None, "litellm_proxy/gpt-4o", "openai/gpt-4o"),
    (
        "together_ai",
        "meta-llama/Llama-3.3-70B-Instruct-Turbo",
        "together/meta-llama/Llama-3.3-70B-Instruct-Turbo",
    ),
    ("groq", "llama-3.3-70b-versatile", "groq/llama-3.3-70b-versatile"),
    ("xai", "grok-4", "x-ai/grok-4-0709"),
    ("mistral", "mistral-large-latest", "mistral/mistral-large"),
]
UNKNOWN = [
    ("anthropic", "claude", "unknown_model"),
    ("anthropic", "claude-opus-4-9", "unknown_model"),
    ("anthropic", "claude-opus-4-5-turbo", "unknown_model"),
    ("anthropic", "my-claude-opus-4-5", "unknown_model"),
    # A number that only begins as a book name does, or has a digit more than a date.
    ("anthropic", "claude-opus-4-100", "unknown_model"),
    ("anthropic", "claude-opus-4-1106", "unknown_model"),
    ("anthropic", "claude-opus-4-1-100", "unknown_model"),
    ("anthropic", "claude-200", "unknown_model"),
    ("anthropic", "claude-sonnet-4-5000", "unknown_model"),
    ("anthropic", "claude-haiku-4-500", "unknown_model"),
    ("anthropic", "claude-sonnet-3-700", "unknown_model"),
    ("anthropic", "claude-opus-4-700", "unknown_model"),
    ("vertex_ai", "claude-opus-4-500", "unknown_model"),
    ("azure", "o4-mini-2025-04-1600", "unknown_model"),
    ("bedrock", "anthropic.claude-opus-4-500", "unknown_model"),
    ("bedrock", "anthropic.claude-opus-4-5-100", "unknown_model"),
    ("google", "gemini-2.5-pro-100", "unknown_model"),
    # A version is no snapshot, but at Bedrock, and there it is the book's.
    ("deepseek", "deepseek-r1-v7", "unknown_model"),
    ("deepseek", "deepseek-chat-v9", "unknown_model"),
    ("anthropic", "claude-3-5-sonnet-v9", "unknown_model"),
    ("google", "claude-3-5-sonnet-v9@20241022", "unknown_model"),
    ("cohere", "command-light-v7", "unknown_model"),
    ("mistral", "mixtral-8x7b-v7", "unknown_model"),
    ("openai", "gpt-3.5-turbo-instruct-v7", "unknown_model"),
    ("bedrock", "amazon.nova-premier-v9:9", "unknown_model"),
    ("bedrock", "amazon.nova-lite-v2:0", "unknown_model"),
    ("bedrock", "anthropic.claude-opus-5-v2:0", "unknown_model"),
    ("bedrock", "amazon.titan-embed-text-v3:0", "unknown_model"),
    ("openai", "gpt-4o-foo", "unknown_model"),
    ("openai", "gpt-4o-2031-01-01", "unknown_model"),
    ("openai", "ft:gpt-4.1-2025-04-14:acme::x", "unknown_model"),
    ("openai", "ft:gpt-4-0613:acme::x", "unknown_model"),  # the book has only its base's price
    ("openai", "gpt-4o-2024-08-06.ft-abc", "unknown_model"),
    ("openai", "omni-moderation-2031", "unknown_model"),
    ("azure", "chat-production", "unknown_model"),
    ("azure", "my-o4-mini", "unknown_model"),
    ("azure", "eu/gpt-4o", "unknown_model"),  # LiteLLM's data zone, a tenth dearer
    ("openai", "anthropic/claude-sonnet-4-5", "provider_mismatch"),
    ("openrouter", "openai/gpt-4o:nitro", "unknown_model"),
    ("openrouter", "openai/gpt-4o:free", "unknown_model"),
    ("bedrock", "arn:aws:bedrock:us-east-1:1:application-inference-profile/x", "unknown_model"),
    ("google_places", "place_details", "unknown_provider"),
    ("ollama", "llama3", "unknown_provider"),
    (None, "somewhere/gpt-4o", "unknown_provider"),
    (None, "llama-3.3-70b", "no_provider"),
    (None, "gpt-oss-120b", "no_provider"),
    (None, "my-gpt-4o", "no_provider"),
    ("openai", "", "no_model"),
    ("openai", None, "no_model"),
    (None, None, "no_model"),
    ("openai", "x" * 600, "unknown_model"),
    ("x" * 600, "gpt-4o", "unknown_model"),
]


@pytest.mark.parametrize(("provider", "model", "expected"), KNOWN)
def test_a_name_that_people_send_is_found(provider, model, expected):
    found = resolve(provider, model)
    if expected == "openai of azure":
        expected = "azure/gpt-4o-mini-2024-07-18.ft-"
    assert isinstance(found, Resolved), found
    assert f"{found.provider}/{found.model}" == expected


@pytest.mark.parametrize(("provider", "model", "reason"), UNKNOWN)
def test_what_is_not_certain_is_not_resolved(provider, model, reason):
    found = resolve(provider, model)
    assert isinstance(found, Unresolved), found
    assert found.reason == reason


def test_it_tells_an_exact_name_from_a_snapshot():
    assert resolve("openai", "gpt-4o-2024-08-06").how == "exact"
    assert resolve("anthropic", "claude-opus-4-5-20251101").how == "snapshot"


def test_every_model_of_the_book_is_found_by_its_id():
    book = current()
    missing = [
        (provider, name)
        for provider in book.providers()
        for name in book.names(provider)
        if not (found := book.find(provider, name.lower())) or found.entry.provider != provider
    ]
    assert not missing


@given(data=st.data())
@settings(max_examples=300)
def test_a_known_name_with_anything_more_is_another_name(data):
    """Unless what is more says only which snapshot, or is itself a name of the book."""
    book = current()
    provider = data.draw(st.sampled_from(["openai", "anthropic", "azure", "google", "aws"]))
    name = data.draw(st.sampled_from(book.names(provider))).lower()
    letters = st.text("abcxyz-0123456789.", min_size=1, max_size=12)
    changed = data.draw(st.sampled_from([str.__add__, lambda a, b: b + a]))(
        name, data.draw(letters)
    )
    found = book.find(provider, changed)
    if found is None:
        return
    rules = rules_of(found.entry.model)
    assert rules.names & set(bases(provider, changed)) or any(
        changed.startswith(text) for text in rules.open
    )


@given(data=st.data(), more=st.text("0123456789abcvx", min_size=1, max_size=6))
@settings(max_examples=300)
def test_a_name_that_goes_on_without_a_separator_is_no_snapshot_of_it(data, more):
    """A book name or rule, at any provider, with letters or digits right behind it."""
    book = current()
    provider = data.draw(st.sampled_from(book.providers()))
    model = data.draw(st.sampled_from(book.names(provider)))
    entry = book.find(provider, model.lower()).entry
    name = data.draw(st.sampled_from(sorted(rules_of(entry.model).names)))
    if not name[-1:].isalnum():
        return
    found = book.find(provider, name + more)
    assert found is None or found.how == "exact" or name not in rules_of(found.entry.model).names


@given(provider=st.none() | st.text(), model=st.none() | st.text())
def test_nothing_that_is_sent_raises(provider, model):
    assert isinstance(resolve(provider, model), Resolved | Unresolved)


def test_the_nearest_names_help_a_person():
    assert "gpt-4o-mini" in current().nearest("openai", "gpt-4o-mimi")
    assert "gpt-4o-mini" in current().nearest("azure", "gpt-4o-mimi")
    assert "anthropic/claude-opus-4-5" in current().nearest(None, "anthropic/claude-opus-4-5x")
