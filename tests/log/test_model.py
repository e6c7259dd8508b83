"""Any sequence of appends, reads, commits, rewinds, rolls and restarts, against plain lists."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from nilometer.log.port import Consumer, Record
from tests.log.logs import drain, envelope, numbers, open_log, poll

GROUPS = st.sampled_from(["a", "b"])


class LogModel(RuleBasedStateMachine):
    """`records` is every acknowledged number in order; `committed` and `position` are offsets."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.now = 1_700_000_000_000_000
        self.records: list[int] = []
        self.times: list[int] = []
        self.committed: dict[str, int] = {}
        self.position: dict[str, int] = {}
        self.handed_out: dict[str, list[Record]] = {}
        self.consumers: dict[str, Consumer] = {}
        self.open()

    def open(self) -> None:
        self.log = open_log(
            Path(self.directory.name) / "log", segment_bytes=60_000, clock=lambda: self.now
        )
        self.consumers.clear()

    def consumer(self, group: str) -> Consumer:
        if group not in self.consumers:
            self.consumers[group] = self.log.consumer(group)
            self.position[group] = self.committed.setdefault(group, 0)
            self.handed_out[group] = []
        return self.consumers[group]

    @rule(sizes=st.lists(st.sampled_from([0, 100, 5000, 30_000]), min_size=1, max_size=5))
    def append(self, sizes: list[int]) -> None:
        for size in sizes:
            number = len(self.records)
            assert self.log.append_blocking(envelope(number, size=size)).offset == number
            self.records.append(number)
            self.times.append(self.now)

    @rule(group=GROUPS, count=st.integers(1, 6), size=st.sampled_from([1, 9000, 1_000_000]))
    def poll(self, group: str, count: int, size: int) -> None:
        found = poll(self.consumer(group), max_records=count, max_bytes=size)
        start = self.position[group]
        assert numbers(found) == self.records[start : start + len(found)]
        assert bool(found) == (start < len(self.records))
        assert len(found) <= count
        if size == 1_000_000:
            assert len(found) == min(count, len(self.records) - start)
        self.position[group] += len(found)
        self.handed_out[group] += found

    @precondition(lambda self: any(self.handed_out.values()))
    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        group = data.draw(st.sampled_from([g for g, out in self.handed_out.items() if out]))
        upto = data.draw(st.integers(1, len(self.handed_out[group])))
        records = self.handed_out[group][:upto]
        self.consumer(group).commit(records)
        last = max(record.position.offset for record in records)
        self.committed[group] = max(self.committed[group], last + 1)

    @rule(group=GROUPS, back=st.integers(0, 5))
    def rewind(self, group: str, back: int) -> None:
        since = self.now - back * 1000
        consumer = self.consumer(group)
        consumer.rewind(since)
        target = sum(at < since for at in self.times)
        self.committed[group] = min(self.committed[group], target)
        self.position[group] = min(self.position[group], target)
        self.handed_out[group].clear()

    @rule(by=st.integers(-3, 5))
    def time_passes(self, by: int) -> None:
        self.now = max(self.now + by * 1000, max(self.times, default=0))

    @rule()
    def reopen(self) -> None:
        self.log.close()
        self.open()
        self.handed_out.clear()

    @invariant()
    def lag_is_what_was_not_committed(self) -> None:
        state = self.log.state()
        assert state.depth == len(self.records)
        for group, committed in self.committed.items():
            assert state.groups[group].records == len(self.records) - committed

    def teardown(self) -> None:
        whole = drain(self.log.consumer("a fresh group"))
        self.log.close()
        self.directory.cleanup()
        assert numbers(whole) == self.records


TestLogModel = LogModel.TestCase
TestLogModel.settings = settings(max_examples=10, stateful_step_count=20, deadline=None)
