"""The tiers in which providers sell the same model, under the names that sources use."""

from __future__ import annotations

from collections.abc import Mapping

STANDARD = "standard"
ANY = "any"
"""In an override: every tier."""

TIERS: Mapping[str, str] = {
    "": STANDARD,
    "standard": STANDARD,
    "default": STANDARD,
    "auto": STANDARD,
    "on_demand": STANDARD,
    "batch": "batch",
    "flex": "flex",
    "priority": "priority",
    "fast": "fast",
}
"""One name for each. OpenAI and LiteLLM say `service_tier`; `auto` is a wish, not what was served,
and stands for standard because a provider that served another tier says so in its answer."""

CONTEXTS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "batch": (("processing", "batch"),),
    "flex": (("service_tier", "flex"),),
    "priority": (("service_tier", "priority"),),
    "fast": (("service_tier", "fast"), ("speed", "fast")),
}
"""What the price book calls each: any one of these."""
