"""For LiteLLM that looks for a callback's module beside its configuration only (1.85 does)."""  # noqa: INP001

from nilometer.integrations.litellm import callback

__all__ = ["callback"]
