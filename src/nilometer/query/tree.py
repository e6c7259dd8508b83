"""From the events of one trace to its tree. Pure.

Clients send what they have: parents that never arrive, the trace's id as a parent (LangChain's
handler does, for the children of a root run), one span id twice, several roots, even cycles.
Whatever comes, every event is in the tree exactly once, and the same events give the same tree in
whatever order they arrived.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

TRACE_EVENT = "$ai_trace"
# An event that others hang from is preferred as a parent when a span id is there more than once.
_CONTAINERS = frozenset({TRACE_EVENT, "$ai_span"})


class Link(StrEnum):
    """Why a node stands where it does."""

    ROOT = "root"  # it names no parent and nothing in the trace stands above it
    PARENT = "parent"  # below the event whose span id it names
    TRACE = "trace"  # below the trace's own event: it names the trace's id, or no parent
    ORPHAN = "orphan"  # it names a parent that is not here
    CYCLE = "cycle"  # its ancestors lead back to itself; the circle is opened here


@dataclass(frozen=True, slots=True)
class Span:
    """One event of a trace, as far as the tree shows it.

    `timestamp` is microseconds since the epoch, `latency` seconds; token counts are as reported,
    None when they were not. `error` is cut to what fits a line or two.
    """

    uuid: str
    event: str
    timestamp: int
    span_id: str | None
    parent_id: str | None
    name: str | None = None
    model: str | None = None
    provider: str | None = None
    latency: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    http_status: int | None = None
    is_error: bool = False
    error: str | None = None


@dataclass(slots=True)
class Node:
    """A span in its place. `depth` counts from 0 at the top; children are in time order."""

    span: Span
    link: Link = Link.ROOT
    depth: int = 0
    children: list[Node] = field(default_factory=list["Node"])


def build(spans: Iterable[Span], trace_id: str) -> list[Node]:
    """The top nodes of a trace, in time order; every span is in exactly one place below them."""
    nodes = [Node(span) for span in sorted(spans, key=_order)]
    parents = _parents(nodes, trace_id)
    _open_cycles(nodes, parents)
    tops: list[Node] = []
    for index, node in enumerate(nodes):
        parent = parents[index]
        (tops if parent is None else nodes[parent].children).append(node)
    _set_depths(tops)
    return tops


def walk(tops: Sequence[Node]) -> Iterable[Node]:
    """Every node, each before its children, in the order that a reader sees."""
    waiting = list(reversed(tops))
    while waiting:
        node = waiting.pop()
        yield node
        waiting.extend(reversed(node.children))


def _order(span: Span) -> tuple[int, str]:
    return span.timestamp, span.uuid


def _parents(nodes: list[Node], trace_id: str) -> list[int | None]:
    by_span_id = _by_span_id(nodes)
    root = next((at for at, node in enumerate(nodes) if node.span.event == TRACE_EVENT), None)
    parents: list[int | None] = []
    for index, node in enumerate(nodes):
        parent, node.link = _parent(index, node.span, by_span_id, root, trace_id)
        parents.append(parent)
    return parents


def _parent(
    index: int, span: Span, by_span_id: dict[str, list[int]], root: int | None, trace_id: str
) -> tuple[int | None, Link]:
    named = span.parent_id
    if named:
        for candidate in by_span_id.get(named, ()):
            if candidate != index:
                return candidate, Link.PARENT
    orphan = bool(named) and named not in (trace_id, span.span_id)
    if root is None or index == root or span.event == TRACE_EVENT:
        return None, Link.ORPHAN if orphan else Link.ROOT
    return root, Link.ORPHAN if orphan else Link.TRACE


def _by_span_id(nodes: list[Node]) -> dict[str, list[int]]:
    """For each span id the two best parents (two, so that a node never has only itself)."""
    found: dict[str, list[int]] = {}
    for container in (True, False):
        for index, node in enumerate(nodes):
            span_id = node.span.span_id
            if span_id and (node.span.event in _CONTAINERS) is container:
                candidates = found.setdefault(span_id, [])
                if len(candidates) < 2:
                    candidates.append(index)
    return found


def _open_cycles(nodes: list[Node], parents: list[int | None]) -> None:
    """Detach the earliest node of each circle, so that every node leads to a top."""
    settled = [False] * len(nodes)
    for start in range(len(nodes)):
        path: list[int] = []
        on_path: set[int] = set()
        at: int | None = start
        while at is not None and not settled[at] and at not in on_path:
            path.append(at)
            on_path.add(at)
            at = parents[at]
        if at is not None and at in on_path:
            first = min(path[path.index(at) :])  # nodes are in time order
            parents[first], nodes[first].link = None, Link.CYCLE
        for index in path:
            settled[index] = True


def _set_depths(tops: list[Node]) -> None:
    for node in walk(tops):
        for child in node.children:
            child.depth = node.depth + 1
