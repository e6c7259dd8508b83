"""Packs and facts to try rules on, and strategies that make many."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from nilometer.incidents.packs.reading import parse_pack

CONDITIONS = [
    "true",
    "false",
    "exception.payload.n > 3",
    'exception.payload.s == "x"',
    "has(exception.payload.n) && exception.payload.n < 100",
    "exception.payload.l.exists(e, e == 1)",
    'triage.severity == "high"',
    "1 / (exception.payload.n - exception.payload.n) == 1",
    'exception.payload.s.matches("^a+$")',
    "tenant.id == 2",
]
SEVERITIES = ["low", "medium", "high", "critical"]
TYPES = ["A", "B", "C"]


def facts(payload: dict[str, Any] | None = None, **parts: Any) -> Any:
    """A fact document; `parts` are members of its parts, as `exception={"type": "B"}`."""
    document: dict[str, Any] = {
        "exception": {
            "type": "A",
            "source_system": "tests",
            "severity": None,
            "domain": None,
            "entity": None,
            "amount": None,
            "occurred_at": "2026-01-31T12:00:00Z",
            "payload": payload or {},
            "raised_by": {"kind": "key"},
        },
        "incident": {"id": "i", "age_seconds": 5, "sla_seconds_left": None, "attempts": 0},
        "triage": {"severity": "high", "confidence": 0.9, "rules": []},
        "steps": {},
        "tenant": {"id": 1},
    }
    for name, members in parts.items():
        document[name] = {**document[name], **members}
    return document


def pack(**members: Any) -> Any:
    """The pack with these members."""
    return parse_pack({"format": 1, "name": "p", **members})


_texts = st.characters(exclude_categories=["Cs"], exclude_characters="\x00")  # the doors refuse it
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(_texts, max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(_texts, max_size=5), inner),
    max_leaves=8,
)
payloads = st.fixed_dictionaries(
    {},
    optional={
        "n": json_values,
        "s": st.sampled_from(["x", "aaa", "{{ 1 }}", ""]) | json_values,
        "l": st.lists(st.integers(0, 3), max_size=4) | json_values,
    },
)
many_facts = st.builds(
    lambda payload, kind, stated, severity, confidence, tenant, entity: facts(
        payload,
        exception={"type": kind, "severity": stated, "entity": entity},
        triage={"severity": severity, "confidence": confidence},
        tenant={"id": tenant},
    ),
    payloads,
    st.sampled_from(TYPES),
    st.sampled_from([None, *SEVERITIES, "awful"]),
    st.sampled_from([None, *SEVERITIES]),
    st.floats(0, 1),
    st.sampled_from([1, 2]),
    st.sampled_from([None, "x", "y"]),
)
_types = st.lists(st.sampled_from(TYPES), max_size=2, unique=True)


def _named(prefix: str, each: st.SearchStrategy[dict[str, Any]]) -> Any:
    return st.lists(each, max_size=4).map(
        lambda found: [{"name": f"{prefix}{i}", **one} for i, one in enumerate(found)]
    )


triages = st.fixed_dictionaries(
    {
        "classify": _named(
            "c",
            st.fixed_dictionaries(
                {"when": st.sampled_from(CONDITIONS), "type": st.sampled_from(TYPES)}
            ),
        ),
        "rules": _named(
            "r",
            st.fixed_dictionaries(
                {
                    "when": st.sampled_from(CONDITIONS),
                    "severity": st.sampled_from(SEVERITIES),
                    "confidence": st.floats(0, 1),
                    "types": _types,
                }
            ),
        ),
    }
)
_names = st.fixed_dictionaries(
    {},
    optional={
        "types": _types,
        "entities": st.lists(st.sampled_from(["x", "y"]), max_size=2, unique=True),
        "source_systems": st.just(["tests"]),
        "tools": st.just(["notify"]),
    },
)
policies = st.fixed_dictionaries(
    {
        "rules": _named(
            "g",
            st.fixed_dictionaries(
                {
                    "when": st.sampled_from(CONDITIONS),
                    "outcome": st.sampled_from(["allow", "require_approval", "escalate", "block"]),
                }
            ),
        ),
        "rates": _named(
            "n",
            st.fixed_dictionaries(
                {
                    "limit": st.integers(0, 3),
                    "window_seconds": st.just(60),
                    "per": st.sampled_from(["project", "type", "entity", "playbook"]),
                    "outcome": st.sampled_from(["require_approval", "escalate", "block"]),
                }
            ),
        ),
        "approvals": st.lists(st.sampled_from(SEVERITIES), max_size=2, unique=True),
        "allow": _names,
        "block": _names,
        "confidence": st.floats(0, 1).map(lambda low: {"escalate_below": low / 2}),
    }
)
playbooks = _named(
    "p",
    st.fixed_dictionaries(
        {
            "when": st.sampled_from(CONDITIONS),
            "priority": st.integers(-1, 1),
            "types": _types,
            "steps": st.just([{"name": "a", "tool": "notify"}]),
        }
    ),
)
