"""Langfuse's current SDK, as its page sets it up."""

from tests.clients.golden import COST, VECTOR
from tests.clients.mock_openai import TEXT
from tests.clients.river import Page, cost, new_project, vector
from tests.running import Server

PAGE = Page("langfuse.md")


def test_the_example_arrives_with_its_trace_tokens_and_cost(server: Server, openai_upstream: str):
    project = new_project(server, "langfuse")
    assert project.run(PAGE, openai_upstream).strip() == TEXT
    [call] = project.calls(1)
    assert (vector(call), cost(call)) == (VECTOR, COST)
    assert (call["model"], call["priced_provider"]) == ("gpt-4o-mini-2024-07-18", "openai")
    assert call["identity"] == "span"
    assert project.tree(call["trace_id"]) == {
        ("$ai_trace", "answer a question", None),
        ("$ai_generation", "OpenAI-generation", "answer a question"),
    }


def test_a_public_key_of_another_project_is_refused(server: Server, openai_upstream: str):
    project, other = new_project(server, "langfuse mine"), new_project(server, "langfuse other")
    mixed = {"LANGFUSE_PUBLIC_KEY": str(other.number)}
    project.run(PAGE, openai_upstream, **mixed)
    project.run(PAGE, openai_upstream)
    assert len(project.calls(1)) == 1
    assert other.query("SELECT * FROM calls") == []
