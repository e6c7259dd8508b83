"""Nilometer: capture, keep, price and explain every call to a language model.

Importing this package loads nothing else: each public name is resolved on first use.
"""

__version__ = "0.1.0"

TYPE_CHECKING = False  # typing's, without loading typing
if TYPE_CHECKING:
    from nilometer.domain.usage_metric import AIUsageMetric
    from nilometer.errors import BudgetExceeded
    from nilometer.sdk.calculator import CostCalculator
    from nilometer.sdk.config import ClientConfig
    from nilometer.sdk.context import (
        ContextThreadPoolExecutor,
        batch_usage_context,
        carry_context,
        tracked,
        usage_context,
    )
    from nilometer.sdk.manager import ClientManager
    from nilometer.sdk.tracker import AIUsageTracker

    ai_usage_context = usage_context
    batch_ai_usage_context = batch_usage_context
    ai_usage_tracked = tracked

_CONTEXT = "nilometer.sdk.context"
_PUBLIC = {
    "AIUsageMetric": ("nilometer.domain.usage_metric", "AIUsageMetric"),
    "AIUsageTracker": ("nilometer.sdk.tracker", "AIUsageTracker"),
    "BudgetExceeded": ("nilometer.errors", "BudgetExceeded"),
    "ClientConfig": ("nilometer.sdk.config", "ClientConfig"),
    "ClientManager": ("nilometer.sdk.manager", "ClientManager"),
    "ContextThreadPoolExecutor": (_CONTEXT, "ContextThreadPoolExecutor"),
    "CostCalculator": ("nilometer.sdk.calculator", "CostCalculator"),
    "ai_usage_context": (_CONTEXT, "usage_context"),
    "ai_usage_tracked": (_CONTEXT, "tracked"),
    "batch_ai_usage_context": (_CONTEXT, "batch_usage_context"),
    "batch_usage_context": (_CONTEXT, "batch_usage_context"),
    "carry_context": (_CONTEXT, "carry_context"),
    "tracked": (_CONTEXT, "tracked"),
    "usage_context": (_CONTEXT, "usage_context"),
}
__all__ = [
    "AIUsageMetric",
    "AIUsageTracker",
    "BudgetExceeded",
    "ClientConfig",
    "ClientManager",
    "ContextThreadPoolExecutor",
    "CostCalculator",
    "ai_usage_context",
    "ai_usage_tracked",
    "batch_ai_usage_context",
    "batch_usage_context",
    "carry_context",
    "tracked",
    "usage_context",
]


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'nilometer' has no attribute {name!r}")
    import importlib

    module, attribute = _PUBLIC[name]
    found = getattr(importlib.import_module(module), attribute)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
