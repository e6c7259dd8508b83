"""What the bench of trace files measures is what it says."""

import sys

from bench.trace_records import write_array
from bench.traces import _measured
from nilometer.importers import parsing, reading
from nilometer.importers.chunk import Options


def test_the_clock_is_the_benchs_own_whatever_a_command_says():
    said = '{"seconds": 0, "records_per_second": 9}'
    found = _measured([sys.executable, "-S", "-c", f"print('{said}')"], 1000)
    assert found["seconds"] > 0
    assert found["records_per_second"] > 9
    assert found["said"] == {"seconds": 0, "records_per_second": 9}


def test_every_element_of_its_array_is_a_call(tmp_path):
    write_array(tmp_path / "array.json", 300)
    (source,) = reading.sources([str(tmp_path / "array.json")])
    chunks = list(reading.read_chunks(source))
    assert {chunk.framing for chunk in chunks} == {"values"}
    found = [parsing.parse_chunk(chunk, Options()) for chunk in chunks]
    assert sum(each.tally.calls for each in found) == 300
    assert not any(each.rejected for each in found)
