"""Claude Code and Codex, the real programs, against upstreams on loopback."""

from __future__ import annotations

import subprocess
from decimal import Decimal
from pathlib import Path

from tests.clients.golden import MILLION
from tests.clients.mock_agents import TEXT, mock_messages, mock_responses
from tests.clients.river import ROOT, Page, Project, cost, new_project, vector
from tests.running import Server

NODE = ROOT / ".build" / "clients-node" / "node_modules"
QUESTION = "How high is the river?"


def run(directory: Path, program: str, *arguments: str, **environment: str) -> str:
    """What the program writes, with a home and a working directory of its own."""
    home = directory / "home"
    home.mkdir()
    known = {"HOME": str(home), "PATH": f"/usr/local/bin:/usr/bin:/bin:{NODE / '.bin'}"}
    done = subprocess.run(
        [str(NODE / ".bin" / program), *arguments],
        env=known | environment,
        cwd=directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def claude(project: Project, directory: Path, upstream: str) -> str:
    upstream_only = {
        "ANTHROPIC_BASE_URL": upstream,
        "ANTHROPIC_API_KEY": "sk-ant-upstream",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    }
    variables = Page("claude-code.md").exports(project) | upstream_only
    model = ("--model", "claude-sonnet-4-5-20250929")
    return run(directory, "claude", "-p", QUESTION, *model, **variables)


def test_a_request_of_claude_code_is_a_call_with_its_tokens_and_cost(
    server: Server, tmp_path: Path
):
    project = new_project(server, "claude code")
    with mock_messages() as upstream:
        assert claude(project, tmp_path, upstream).strip() == TEXT
    [call] = project.calls(1)
    # The split of cache writes by their time is not told: all count as those of five minutes.
    assert vector(call) == {
        "uncached_input": 40,
        "cache_read": 1000,
        "cache_write_5m": 300,
        "text_output": 25,
    }
    # USD for a million: input 3.00, cache read 0.30, cache write 3.75, output 15.00.
    micro = 40 * 3 + 1000 * Decimal("0.30") + 300 * Decimal("3.75") + 25 * 15
    assert cost(call) == micro / MILLION
    assert (call["model"], call["provider"]) == ("claude-sonnet-4-5-20250929", "anthropic")
    assert call["session_id"]
    assert project.tree(call["trace_id"]) == {
        ("$ai_trace", "claude_code.interaction", None),
        ("$ai_generation", "claude_code.llm_request", "claude_code.interaction"),
    }


def test_a_turn_of_codex_is_a_call_with_its_tokens_and_cost(server: Server, tmp_path: Path):
    project = new_project(server, "codex")
    codex_home = tmp_path / "codex"
    codex_home.mkdir()
    [config] = Page("codex.md").blocks("toml")
    (codex_home / "config.toml").write_text(project.settings(config))
    with mock_responses() as upstream:
        provider = 'model_providers.mock={{name="mock",base_url="{}",env_key="OPENAI_API_KEY"}}'
        overrides = (provider.format(upstream), 'model_provider="mock"', 'model="gpt-5-codex"')
        arguments = [word for override in overrides for word in ("-c", override)]
        told = run(
            tmp_path,
            *("codex", "exec", "--skip-git-repo-check", *arguments, QUESTION),
            CODEX_HOME=str(codex_home),
            OPENAI_API_KEY="sk-upstream",
        )
    assert told.strip().endswith(TEXT)
    [call] = project.calls(1)
    assert vector(call) == {
        "uncached_input": 200,
        "cache_read": 1000,
        "text_output": 30,
        "reasoning": 20,
    }
    # USD for a million: input 1.25, cached 0.125, output 10.00.
    assert cost(call) == (200 * Decimal("1.25") + 125 + 50 * 10) / MILLION
    assert call["model"] == "gpt-5-codex"
    [name] = project.query(f"SELECT span_name FROM events WHERE uuid = '{call['event_uuid']}'")
    assert name["span_name"] == "session_task.turn"
