"""What the mock's answers of gpt-4o-mini hold and cost, reckoned by hand.

OpenAI's list price of gpt-4o-mini, USD for a million tokens: input 0.15, cached input 0.075,
output 0.60 (reasoning is output). 120 in, 100 of them cached; 30 out, 10 of them reasoning.
"""

from decimal import Decimal

MILLION = Decimal(1_000_000)
VECTOR = {"uncached_input": 20, "cache_read": 100, "text_output": 20, "reasoning": 10}
COST = (20 * Decimal("0.15") + 100 * Decimal("0.075") + 30 * Decimal("0.60")) / MILLION
assert Decimal("0.0000285") == COST
