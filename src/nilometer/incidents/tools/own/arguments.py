"""What an own action was asked for."""

from __future__ import annotations

from nilometer.access.types import Authority
from nilometer.incidents.tools.call import Json, ToolCall
from nilometer.incidents.tools.resolving import Resolved


def arguments(call: ToolCall, tool: Resolved) -> Json:
    """The call's input, and over it what the tool's definition fixes (`config.input`)."""
    return {**call.input, **tool.tool.config.get("input", {})}


def acting_for(call: ToolCall) -> Authority:
    """Who does it, as the audit log has it."""
    return Authority(actor_of(call), None, None)


def actor_of(call: ToolCall) -> str:
    """The name of who does it: the incident."""
    return f"incident {call.incident_id}"
