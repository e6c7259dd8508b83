"""The cost conformance suite, against our own implementation and against wrong ones."""

from __future__ import annotations

import copy
import json
import shlex
import subprocess
import sys
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import pytest

from conformance.cases import faults, load, question
from conformance.nilometer import answer
from nilometer.conventions.usage import ADAPTERS, detect

CASES = dict(load())
BY_DOOR = {"openllmetry", "openllmetry_bedrock", "vercel_exclusive"}
PRICED = {name: case for name, case in CASES.items() if case["expected"]["cost"]}


def test_there_are_enough_cases_from_enough_sources() -> None:
    assert len(CASES) >= 120
    assert len({case["convention"] for case in CASES.values()}) >= 20
    assert len({case["provider"] for case in CASES.values()}) >= 12
    assert sum("guards_against" in case for case in CASES.values()) >= 60


@pytest.mark.parametrize("name", CASES)
def test_tokens_and_cost_are_exact(name: str) -> None:
    case = CASES[name]
    found = answer(question(case))
    assert faults(case, found) == []
    assert found["reason"] == case["expected"].get("reason", "")


@pytest.mark.parametrize("name", PRICED)
def test_the_expected_cost_is_what_its_arithmetic_gives(name: str) -> None:
    basis, expected = PRICED[name]["basis"], PRICED[name]["expected"]
    written, _, result = basis["arithmetic"].rpartition(" = ")
    components = {
        **{
            bucket: Decimal(expected["vector"][bucket]) * Decimal(price) / 10**6
            for bucket, price in basis["usd_per_million_tokens"].items()
        },
        **{
            unit: Decimal(expected["units"][unit]) * Decimal(rate["price"]) / rate["units"]
            for unit, rate in basis.get("usd_per_units", {}).items()
        },
    }
    assert basis["page"].startswith("https://")
    assert calculated(written) == Decimal(result) == Decimal(expected["cost"]["total"])
    assert sum(components.values()) == Decimal(result)
    assert components == {
        name: Decimal(cost) for name, cost in expected["cost"]["components"].items()
    }


def calculated(written: str) -> Decimal:
    """The value of `(a × b + c × d) / 1000000 + e × f / g`."""
    with localcontext(prec=60):
        total = Decimal(0)
        inside, bracket, rest = written.rpartition(") / 1000000")
        if bracket:
            total = sum((product(each) for each in inside[1:].split(" + ")), Decimal(0)) / 10**6
        for each in filter(None, rest.split(" + ")):
            top, _, bottom = each.partition(" / ")
            total += product(top) / Decimal(bottom)
        return total


def product(written: str) -> Decimal:
    count, _, price = written.partition(" × ")
    return Decimal(count) * Decimal(price)


@pytest.mark.parametrize("name", CASES)
def test_the_convention_is_detected_from_what_is_sent(name: str) -> None:
    case = CASES[name]
    if case["convention"] == "event" or case["convention"] in BY_DOOR:
        return
    found = detect(case["input"])
    if found is None:
        assert case["expected"]["reason"].endswith("not_reported"), "there is a count to go by"
        return
    seen, meant = ADAPTERS[found](case["input"]), ADAPTERS[case["convention"]](case["input"])
    assert (seen.vector, seen.units, seen.reason) == (meant.vector, meant.units, meant.reason)


@pytest.mark.parametrize("name", list(PRICED)[::7])
def test_a_wrong_answer_is_found_out(name: str) -> None:
    case = PRICED[name]
    if case["expected"].get("or_unpriced"):
        return
    right = answer(question(case))
    for wrong in spoiled(right):
        assert faults(case, wrong) != [], wrong


def spoiled(right: dict[str, Any]) -> list[dict[str, Any]]:
    more, dear, part, free = (copy.deepcopy(right) for _ in range(4))
    more["vector"]["uncached_input"] += 1
    dear["cost"]["total"] = str(Decimal(right["cost"]["total"]) + Decimal("1e-18"))
    part["cost"]["components"] = {}
    free["cost"]["total"] = "0"
    return [more, dear, part, free, {**right, "cost": None}, {**right, "vector": None}, {}]


def test_a_cost_where_there_is_none_is_found_out() -> None:
    unpriced = [case for case in CASES.values() if case["expected"]["cost"] is None]
    assert len(unpriced) >= 20
    for case in unpriced:
        right = answer(question(case))
        assert faults(case, {**right, "cost": {"total": "0"}}) != []


def run(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "conformance", "--command", command],
        check=False,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        timeout=100,
    )


def test_anyone_can_run_it_and_ours_passes() -> None:
    done = run(f"{shlex.quote(sys.executable)} -m conformance.nilometer")
    assert (done.returncode, done.stdout) == (0, f"{len(CASES)} of {len(CASES)} right\n")


def test_an_implementation_that_prices_nothing_fails(tmp_path: Path) -> None:
    program = tmp_path / "mute.py"
    program.write_text("import sys\nfor line in sys.stdin:\n    print('{}')\n")
    done = run(f"{shlex.quote(sys.executable)} {shlex.quote(str(program))}")
    unknown = sum(
        case["expected"]["vector"] is None and "units" not in case["expected"]
        for case in CASES.values()
    )
    assert done.returncode == 1
    assert done.stdout.endswith(f"{unknown} of {len(CASES)} right\n")
    program.write_text("print('{}')\n")
    assert "1 answers" in run(f"{shlex.quote(sys.executable)} {shlex.quote(str(program))}").stderr


def test_a_question_does_not_tell_its_answer() -> None:
    for case in CASES.values():
        assert "expected" not in question(case)
        assert json.dumps(question(case))
