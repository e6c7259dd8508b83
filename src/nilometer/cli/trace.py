"""`nilometer trace` draws one trace as a tree."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nilometer.cli.app import app
from nilometer.cli.client import (
    DEFAULT_URL,
    OWN_PROJECT,
    AsJson,
    Key,
    Project,
    Url,
    connected,
    segment,
    show_document,
)
from nilometer.cli.output import visible

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree

_SHOWN = 120


@app.command("trace")
def show_trace(
    trace_id: Annotated[str, typer.Argument(metavar="TRACE_ID")],
    url: Url = DEFAULT_URL,
    key: Key = None,
    project: Project = OWN_PROJECT,
    as_json: AsJson = False,
) -> None:
    """Draw one trace as a tree: durations, models, tokens, errors."""
    with connected(url, key) as client:
        text = client.get(f"/api/projects/{project}/traces/{segment(trace_id)}")
    if as_json:
        show_document(text)
        return
    from rich.console import Console

    console = Console(file=sys.stdout, highlight=False)
    console.print(trace_tree(json.loads(text)), soft_wrap=not sys.stdout.isatty())


def trace_tree(trace: dict[str, Any]) -> Tree:
    """The drawing of a trace, as the API gives it (`/api/projects/{id}/traces/{trace_id}/`)."""
    from rich.tree import Tree

    tree = Tree(_summary_line(trace))
    waiting = [(tree, node) for node in reversed(trace["tree"])]
    while waiting:
        branch, node = waiting.pop()
        below = branch.add(_node_line(node))
        waiting += [(below, child) for child in reversed(node["children"])]
    if trace["truncated"]:
        tree.add("… more events than are shown; `nilometer events --trace` lists them all")
    return tree


def _summary_line(trace: dict[str, Any]) -> Text:
    from rich.text import Text

    facts = [
        f"{trace['duration']:.2f} s",
        f"{trace['event_count']} events",
        *(["1 error"] if trace["error_count"] == 1 else []),
        *([f"{trace['error_count']} errors"] if trace["error_count"] > 1 else []),
        _tokens(trace),
        _cost(trace),
        ", ".join(map(_cut, trace["models"])),
    ]
    name = _cut(trace["name"] or trace["trace_id"])
    return Text.assemble((name, "bold"), "  " + " · ".join(filter(None, facts)))


def _node_line(node: dict[str, Any]) -> Text:
    from rich.text import Text

    kind = _cut(node["event"].removeprefix("$ai_"))
    facts = [
        "" if node["latency"] is None else f"{node['latency']:.2f} s",
        _cut(node["model"] or "") if kind in ("generation", "embedding") else "",
        _tokens(node),
    ]
    line = Text.assemble((_cut(node["name"] or kind), "red" if node["is_error"] else "bold"))
    line.append(f"  {kind}", "dim")
    line.append("".join(f" · {fact}" for fact in facts if fact))
    if node["is_error"]:
        status = f" {node['http_status']}" if node["http_status"] is not None else ""
        line.append(f"  error{status} {_cut(node['error'] or '')}".rstrip(), "red")
    if node["link"] in ("orphan", "cycle"):
        line.append(f"  ({node['link']}: parent {_cut(node['parent_id'] or '')})", "yellow")
    return line


def _tokens(of: dict[str, Any]) -> str:
    sent, got = of["input_tokens"], of["output_tokens"]
    if sent is None and got is None:
        return ""
    shown = ["–" if count is None else f"{count:,}" for count in (sent, got)]
    return f"{shown[0]} → {shown[1]} tokens"


def _cost(trace: dict[str, Any]) -> str:
    """The computed cost of a trace, and how many of its calls are not in it."""
    total, unpriced = trace["total_cost_usd"], trace["unpriced_call_count"]
    without = f"{unpriced} unpriced" if unpriced else ""
    return ", ".join(filter(None, (f"${total}" if total is not None else "", without)))


def _cut(text: str) -> str:
    """A client's text on one line, harmless to a terminal."""
    shown = visible(text[: _SHOWN + 1])
    return shown if len(shown) <= _SHOWN else shown[: _SHOWN - 1] + "…"
