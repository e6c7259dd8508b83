"""Traceloop's SDK, as its page sets it up."""

from tests.clients.golden import COST, VECTOR
from tests.clients.mock_openai import TEXT
from tests.clients.river import Page, cost, new_project, vector
from tests.running import Server

# The SDK instruments LiteLLM too, which asks the network for prices when it is imported.
OFFLINE = {"TRACELOOP_TELEMETRY": "false", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}


def test_the_example_arrives_with_its_trace_tokens_and_cost(server: Server, openai_upstream: str):
    project = new_project(server, "traceloop")
    told = project.run(Page("traceloop.md"), openai_upstream, **OFFLINE)
    assert told.strip().endswith(TEXT)
    [call] = project.calls(1)
    assert (vector(call), cost(call)) == (VECTOR, COST)
    assert (call["model"], call["provider"]) == ("gpt-4o-mini-2024-07-18", "openai")
    assert call["identity"] == "response"
    assert project.tree(call["trace_id"]) == {
        ("$ai_trace", "answer a question.workflow", None),
        ("$ai_generation", "openai.chat", "answer a question.workflow"),
    }
