"""docs/scale.md is what its script writes from the figures that are kept, and its arithmetic."""

import json
from dataclasses import asdict, replace

import pytest

from bench import scale
from bench.scaling import Assumptions, Costs, needs

RESULTS = json.loads(scale.KEPT.read_text())
COSTS = Costs.of(RESULTS)


def test_the_page_is_what_the_script_writes():
    assert scale.PAGE.read_text() == scale.page(RESULTS), "run: python -m bench.scale"


def test_a_page_of_other_figures_is_another():
    other = json.loads(json.dumps(RESULTS))
    other["kafka"]["http"][0]["events_per_second"] += 1
    assert scale.page(other) != scale.page(RESULTS)


def test_more_events_never_need_less():
    columns = [asdict(needs(rate, COSTS)) for rate in range(500, 1_000_000, 37_013)]
    for name in columns[0].keys() - {"partitions"}:  # of a cell: more cells, fewer in each
        figures = [each[name] for each in columns]
        assert figures == sorted(figures), name


@pytest.mark.parametrize("rate", scale.RATES)
def test_what_is_needed_carries_the_rate(rate):
    found, given = needs(rate, COSTS), Assumptions()
    assert found.capture * given.busy * 1e6 >= rate * COSTS.capture_us
    assert found.workers * 1e6 >= rate * COSTS.worker_us * given.catch_up
    assert found.partitions * found.cells >= min(found.workers, given.most_partitions)
    assert found.brokers * given.broker_write >= rate * COSTS.log_bytes * given.copies_of_log
    assert found.store_cores * given.busy * 1e6 >= rate * COSTS.store_us * given.store_copies
    assert found.store_cores <= found.store_hosts * given.store_cores


def test_half_the_cost_is_half_the_processes():
    cheap = replace(COSTS, capture_us=COSTS.capture_us / 2)
    assert needs(1_000_000, cheap).capture == pytest.approx(
        needs(1_000_000, COSTS).capture / 2, abs=1
    )
