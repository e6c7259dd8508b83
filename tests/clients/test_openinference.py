"""OpenInference's OpenAI instrumentor, as its page sets it up."""

from tests.clients.golden import COST, VECTOR
from tests.clients.mock_openai import TEXT
from tests.clients.river import Page, cost, new_project, vector
from tests.running import Server


def test_the_example_arrives_with_its_trace_tokens_and_cost(server: Server, openai_upstream: str):
    project = new_project(server, "openinference")
    assert project.run(Page("openinference.md"), openai_upstream).strip() == TEXT
    [call] = project.calls(1)
    assert (vector(call), cost(call)) == (VECTOR, COST)
    assert (call["model"], call["provider"]) == ("gpt-4o-mini-2024-07-18", "openai")
    assert call["identity"] == "span"
    assert project.tree(call["trace_id"]) == {("$ai_generation", "ChatCompletion", None)}
