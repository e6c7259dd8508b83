from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nilometer import CostCalculator, batch_usage_context
from nilometer.domain.usage import TokenVector, Usage
from nilometer.sdk import calculator as calculators
from tests.sdk.conftest import CALL, MakeManager

AT = datetime(2026, 11, 1, tzinfo=UTC)
MINI: dict[str, Any] = {"service": "openai", "model": "gpt-4o-mini"}


def test_tokens_cost_what_the_book_says():
    found = CostCalculator().of_tokens(
        "openai", "gpt-4o-mini", input_tokens=1000, output_tokens=100, at=AT
    )
    assert found.total == Decimal("0.00021")
    assert found.components == {
        "uncached_input": Decimal("0.00015"),
        "text_output": Decimal("0.00006"),
    }
    assert found.source == "genai-prices"


def test_no_side_needs_the_other():
    assert CostCalculator().of_tokens("openai", "gpt-4o-mini", input_tokens=1000, at=AT).total
    assert CostCalculator().of_tokens("openai", "gpt-4o-mini", output_tokens=1, at=AT).total


def test_an_unknown_model_has_no_price_and_a_reason():
    for model in ("claude", "", "claude-opus-4-5-or-so"):
        found = CostCalculator().of_tokens("anthropic", model, input_tokens=5, at=AT)
        assert found.total is None
        assert found.reason


def test_ones_own_prices_come_first(tmp_path: Path):
    file = tmp_path / "prices.toml"
    file.write_text(
        '[[override]]\nid = "ours"\nprovider = "openai"\nmodel = "gpt-4o-mini"\n'
        "effective_from = 2026-01-01\n"
        '[override.per_million_tokens]\nuncached_input = "1"\ntext_output = "2"\n'
    )
    found = CostCalculator(file).of_tokens("openai", "gpt-4o-mini", input_tokens=3, at=AT)
    assert (found.total, found.source) == (Decimal("0.000003"), "override:ours")


def test_without_the_book_nothing_is_priced_and_everything_counted(
    make_manager: MakeManager, monkeypatch: Any
):
    monkeypatch.setattr(calculators, "_has_book", lambda: False)
    manager = make_manager()
    manager.tracker.record(**(CALL | MINI), input_tokens=5)
    assert manager.flush(10)
    [kept] = manager.sinks[0].metrics
    assert (kept.cost_usd, kept.unpriced_reason, kept.input_tokens) == (None, "no_price_book", 5)


def test_a_price_that_cannot_be_worked_out_loses_no_call(
    make_manager: MakeManager, monkeypatch: Any, caplog: pytest.LogCaptureFixture
):
    def fail(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr("nilometer.pricing.price", fail)
    manager = make_manager()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            manager.tracker.record(**(CALL | MINI), input_tokens=5)
        manager.tracker.record(model="m", operation="o")  # of nobody: no call
        assert manager.flush(10)
    found = manager.sinks[0].metrics
    assert [(each.unpriced_reason, each.input_tokens) for each in found] == [
        ("price_failed", 5)
    ] * 3
    assert manager.stats().dropped == {"invalid": 1}
    assert caplog.text.count("without a price: ZeroDivisionError") == 1


def test_pricing_may_interrupt_itself(tmp_path: Path, monkeypatch: Any):
    """A signal's handler, or a finalizer, prices where the file of prices is being read."""
    file = tmp_path / "prices.toml"
    file.write_text(
        '[[override]]\nid = "ours"\nprovider = "openai"\nmodel = "gpt-4o-mini"\n'
        'effective_from = 2026-01-01\nper_million_tokens = { uncached_input = "1" }\n'
    )
    calculator, found = CostCalculator(file), list[Any]()
    read = calculators._read

    def price() -> None:
        found.append(calculator.of_tokens("openai", "gpt-4o-mini", input_tokens=3, at=AT).total)

    def interrupted(path: Path) -> Any:
        monkeypatch.setattr(calculators, "_read", read)
        price()
        return read(path)

    monkeypatch.setattr(calculators, "_read", interrupted)
    thread = threading.Thread(target=price, daemon=True)
    thread.start()
    thread.join(90)
    assert not thread.is_alive()
    assert found == [Decimal("0.000003")] * 2


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**7), st.integers(0, 10**7))
def test_components_add_up_exactly(entered: int, left: int):
    vector = TokenVector(uncached_input=entered, text_output=left)
    found = CostCalculator().of(Usage(vector=vector, convention="x"), at=AT, **MINI)
    assert sum(found.components.values(), Decimal(0)) == found.total


def recorded(manager: Any, **seen: Any) -> Any:
    manager.tracker.record(**(CALL | MINI | seen))
    assert manager.flush(10)
    return manager.sinks[0].metrics[-1]


def test_the_providers_usage_decides_what_a_call_cost(make_manager: MakeManager):
    manager = make_manager()
    usage = {
        "prompt_tokens": 1000,
        "completion_tokens": 100,
        "prompt_tokens_details": {"cached_tokens": 400},
    }
    kept = recorded(manager, usage=usage, started_at=AT)
    assert kept.vector == TokenVector(uncached_input=600, cache_read=400, text_output=100)
    assert kept.cost_usd == Decimal("0.00018")
    assert kept.usage.raw == usage


def test_a_batchs_price_follows_from_the_tier_that_answered(make_manager: MakeManager, tmp_path):
    file = tmp_path / "prices.toml"
    file.write_text(
        '[[override]]\nid = "batch"\nprovider = "openai"\nmodel = "gpt-4o-mini"\n'
        'tier = "batch"\neffective_from = 2026-01-01\n'
        '[override.per_million_tokens]\nuncached_input = "0.075"\ntext_output = "0.3"\n'
    )
    manager = make_manager(prices_file=file)
    plain = recorded(manager, input_tokens=1000, output_tokens=100, started_at=AT)
    with batch_usage_context("b-7"):
        flagged = recorded(manager, input_tokens=1000, output_tokens=100, started_at=AT)
        sold = recorded(
            manager, input_tokens=1000, output_tokens=100, started_at=AT, service_tier="batch"
        )
    assert plain.cost_usd == flagged.cost_usd == 2 * sold.cost_usd
    assert (flagged.batch_id, sold.price_source) == ("b-7", "override:batch")


def test_a_failed_call_costs_nothing_known(make_manager: MakeManager):
    failed = recorded(make_manager(), error=TimeoutError("late"), http_status=504, retries=2)
    assert (failed.cost_usd, failed.unpriced_reason) == (None, "failed_call")
    assert (failed.error_type, failed.error, failed.http_status) == ("TimeoutError", "late", 504)


def test_a_cost_that_the_caller_states_is_kept(make_manager: MakeManager):
    manager = make_manager()
    kept = recorded(manager, cost_usd=Decimal("0.017"), price_source="sku-list")
    assert (kept.cost_usd, kept.price_source) == (Decimal("0.017"), "sku-list")
    assert recorded(manager, cost_usd=Decimal(1)).price_source == "caller"
    assert recorded(manager, cost_usd=0).cost_usd == Decimal(0)


def test_a_stated_cost_stands_beside_the_price_of_a_known_model(make_manager: MakeManager):
    manager = make_manager()
    tokens = {"input_tokens": 1000, "output_tokens": 100, "started_at": AT}
    beside = recorded(manager, **MINI, **tokens, cost_usd=Decimal("0.5"))
    assert (beside.cost_usd, beside.stated_cost_usd) == (Decimal("0.00021"), Decimal("0.5"))
    assert (beside.price_source, beside.reported_cost_usd) == ("genai-prices", None)
    told = recorded(manager, **MINI, **tokens, cost_usd=0, reported_cost_usd=2)
    assert (told.cost_usd, told.stated_cost_usd) == (Decimal("0.00021"), Decimal(0))
    assert told.reported_cost_usd == Decimal(2)


def test_usage_objects_of_providers_libraries_are_read(make_manager: MakeManager):
    class Pydantic:
        def model_dump(self, **_: Any) -> dict[str, Any]:
            return {"input_tokens": 5, "output_tokens": 2, "cache_read_input_tokens": 3}

    class Attributes:
        def __init__(self) -> None:
            self.prompt_tokens, self.completion_tokens = 4, 1

    manager = make_manager()
    claude = {"service": "anthropic", "model": "claude-sonnet-4-5"}
    assert recorded(manager, usage=Pydantic(), **claude).vector == TokenVector(
        uncached_input=5, cache_read=3, text_output=2
    )
    assert recorded(manager, usage=Attributes()).total_tokens == 5
    assert recorded(manager, usage=object(), total_tokens=9).total_tokens == 9
