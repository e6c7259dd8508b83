"""LangChain by the three ways of its page."""

import pytest

from tests.clients.golden import COST, VECTOR
from tests.clients.mock_openai import TEXT
from tests.clients.river import Page, cost, new_project, vector
from tests.running import Server

PAGE = Page("langchain.md")
POSTHOG, OPENLLMETRY, LANGFUSE = range(3)
# OpenLLMetry's instrumentor does not tell reasoning from other output.
PLAIN = {"uncached_input": 20, "cache_read": 100, "text_output": 30}
TREES = {
    POSTHOG: {
        ("$ai_trace", "RunnableSequence", None),
        ("$ai_span", "ChatPromptTemplate", "RunnableSequence"),
        ("$ai_generation", "ChatOpenAI", "RunnableSequence"),
    },
    OPENLLMETRY: {
        ("$ai_trace", "RunnableSequence.workflow", None),
        ("$ai_span", "execute_task ChatPromptTemplate", "RunnableSequence.workflow"),
        ("$ai_generation", "ChatOpenAI.chat", "RunnableSequence.workflow"),
    },
    LANGFUSE: {
        ("$ai_trace", "RunnableSequence", None),
        ("$ai_span", "ChatPromptTemplate", "RunnableSequence"),
        ("$ai_generation", "ChatOpenAI", "RunnableSequence"),
    },
}


@pytest.mark.parametrize(
    ("way", "tokens", "identity"),
    [
        pytest.param(POSTHOG, VECTOR, "span", id="posthog"),
        pytest.param(OPENLLMETRY, PLAIN, "response", id="openllmetry"),
        pytest.param(LANGFUSE, VECTOR, "span", id="langfuse"),
    ],
)
def test_the_example_arrives_with_its_trace_tokens_and_cost(
    server: Server, openai_upstream: str, way: int, tokens: dict[str, int], identity: str
):
    project = new_project(server, f"langchain {way}")
    exports = Page("langfuse.md").exports(project) if way == LANGFUSE else {}
    assert project.run(PAGE, openai_upstream, way, **exports).strip() == TEXT
    [call] = project.calls(1)
    assert (vector(call), cost(call), call["identity"]) == (tokens, COST, identity)
    assert call["model"].startswith("gpt-4o-mini")
    assert project.tree(call["trace_id"]) == TREES[way]
