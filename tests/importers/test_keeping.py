"""Files into a store, run after run: what is known is right whenever one looks."""

import json
import os
from concurrent.futures import Future

import pytest

from nilometer.errors import InvalidInput, Unavailable
from nilometer.importers import ingestion, letter_files, reading
from nilometer.importers.chunk import Chunk, Limits, Options, Position
from nilometer.importers.ingestion import Work
from nilometer.importers.keepers import Anew, StoreKeeper
from nilometer.importers.replaying import replay
from nilometer.importers.store import TraceStore
from tests.importers.test_otlp import request

GOOD = {
    "timestamp": "2026-10-12T09:00:00Z",
    "usage": {"input_tokens": 250, "output_tokens": 150},
    "attributes": {"model": "claude-3-5-sonnet-20241022"},
    "metadata": {"session_id": "s", "repo": "acme/river"},
}


def line(number, **members):
    return json.dumps({**GOOD, "call_id": f"c{number}", **members}).encode() + b"\n"


@pytest.fixture
def store(tmp_path):
    with TraceStore(tmp_path / "traces.db") as store:
        yield store


@pytest.fixture
def log(tmp_path):
    return tmp_path / "log.jsonl"


def ingest(store, *paths, again=False, prices=None, limits=None, **options):
    with store.run(reprices=prices is not None) as run:
        keeper = StoreKeeper(run)
        return ingestion.ingest(
            reading.sources(map(str, paths)),
            Anew(keeper) if again else keeper,
            Work(Options(**options), prices),
            workers=0,
            limits=limits,
        ).counts


def letters(store):
    return [(each.reason, each.line) for each in store.letters.list()]


def column(store, name):
    return [row[0] for row in store.database.execute(f"SELECT {name} FROM sessions ORDER BY 1")]


@pytest.mark.parametrize("pauses", [(40,), (40, 90), (120, 300, 301)])
def test_a_line_that_was_being_written_leaves_no_letter(store, log, pauses):
    whole = line(1) + line(2)
    for upto in pauses:
        log.write_bytes(whole[:upto])
        ingest(store, log)
        assert len(letters(store)) <= 1
    log.write_bytes(whole)
    ingest(store, log)
    assert letters(store) == []
    assert column(store, "call_id") == ["c1", "c2"]


def test_a_line_that_stays_cut_keeps_its_letter(store, log):
    log.write_bytes(line(1) + line(2)[:50])
    ingest(store, log)
    (before,) = store.letters.list()
    for again in (False, True):
        ingest(store, log, again=again)
        assert list(store.letters.list()) == [before]
    with log.open("ab") as file:
        file.write(b"\n" + line(3))
    ingest(store, log)
    log.write_bytes(log.read_bytes() + line(4))
    ingest(store, log)
    assert [each.id for each in store.letters.list()] == [before.id]
    assert column(store, "call_id") == ["c1", "c3", "c4"]


def test_the_letter_of_a_file_that_was_rotated_away_stays(store, log):
    log.write_bytes(line(1) + line(2)[:50])
    ingest(store, log)
    log.write_bytes(b"".join(line(n, timestamp=f"2026-10-13T0{n}:00:00Z") for n in (5, 6, 7)))
    ingest(store, log)
    assert letters(store) == [("cut_short", 2)]


def test_letters_of_files_of_one_name_are_told_apart(store, tmp_path, monkeypatch):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "log.jsonl").write_bytes(b"{}\n")
        monkeypatch.chdir(tmp_path / name)
        ingest(store, "log.jsonl")
        ingest(store, tmp_path / name / "log.jsonl", again=True)
    assert [each.source for each in store.letters.list()] == [
        str(tmp_path / name / "log.jsonl") for name in "ab"
    ]
    (source,) = reading.sources(["log.jsonl"])
    file = letter_files.write(store, source.key, tmp_path / "letters")
    assert file is not None
    assert file.read_bytes().count(b"\n") == 1


def test_a_repository_said_by_hand_mends_a_name_that_is_none(store, log):
    log.write_bytes(line(1, metadata={"repo": "../../etc"}))
    ingest(store, log, repository="acme/said")
    assert letters(store) == [("bad_repository", 1)]
    for options, left in ((Options(), 1), (Options("acme/said"), 0)):
        with store.run() as run:
            done = replay(run, list(store.letters.list()), Work(options))
        assert (done.left, len(letters(store))) == (left, left)
    assert column(store, "repo_slug") == ["acme/said"]


PRICES = """
[[override]]
id = "mine"
provider = "anthropic"
model = "secret-model"
effective_from = 2020-01-01
per_million_tokens = { uncached_input = "1000", text_output = "1000" }
"""


def test_a_call_gets_a_price_when_there_is_one_and_keeps_it(store, log, tmp_path):
    prices = tmp_path / "prices.toml"
    prices.write_text(PRICES)
    log.write_bytes(
        line(1, attributes={"llm.provider": "anthropic", "model": "secret-model"}) + line(2)
    )
    ingest(store, log)
    assert None in column(store, "cost_usd")
    assert ingest(store, log, again=True, prices=prices).updated == 1
    priced = column(store, "cost_usd")
    assert "0.4" in priced
    assert ingest(store, log, again=True).duplicate == 2
    prices.write_text(PRICES.replace("1000", "2000"))
    assert ingest(store, log, again=True, prices=prices).updated == 1
    assert "0.8" in column(store, "cost_usd")


def test_bad_spans_of_one_request_are_one_letter_with_each_reason(store, log):
    made = request(1)
    (scope,) = made["resourceSpans"][0]["scopeSpans"]
    (good,) = scope["spans"]
    broken = (
        {**good, "spanId": f"{number:016x}", "startTimeUnixNano": "soon"} for number in (1, 2)
    )
    scope["spans"] = [good, *broken]
    log.write_bytes(json.dumps(made).encode() + b"\n")
    assert (ingest(store, log).rejected, column(store, "status")) == (1, ["success"])
    (letter,) = store.letters.list()
    why = "a time of a span is no number of nanoseconds"
    assert letter.detail == f"2 of 3 spans are none; 2 times: {why}"


def test_a_name_of_any_bytes_is_a_file_like_others(store, tmp_path):
    folder = tmp_path / "logs"
    folder.mkdir()
    for name in (b"a\xff.jsonl", b"b.jsonl"):
        (folder / os.fsdecode(name)).write_bytes(line(name[0]) + b"{}\n")
    assert (ingest(store, folder).inserted, ingest(store, folder).inserted) == (2, 0)
    assert [each.source.encode() for each in store.letters.list()] == [
        os.fsencode(folder) + name for name in (b"/a\\xff.jsonl", b"/b.jsonl")
    ]


def test_a_file_that_cannot_be_read_keeps_no_other_from_it(store, tmp_path):
    (tmp_path / "a.jsonl").symlink_to(tmp_path / "nowhere")
    (tmp_path / "b.jsonl").write_bytes(line(1))
    with pytest.raises(InvalidInput, match=r"a\.jsonl cannot be read"):
        ingest(store, tmp_path / "*.jsonl")
    assert column(store, "call_id") == ["c1"]


def test_a_record_without_a_time_is_known_when_it_comes_again(store, log):
    log.write_bytes(json.dumps({**GOOD, "timestamp": None}).encode() + b"\n")
    assert ingest(store, log, now=1_790_000_000_000_000).inserted == 1
    before = column(store, "timestamp")
    assert ingest(store, log, again=True, now=1_790_086_400_000_000).duplicate == 1
    assert column(store, "timestamp") == before
    assert column(store, "json_extract(details, '$.is_time_assumed')") == [1]


def test_a_worker_that_is_killed_is_said_in_a_sentence(store, log, monkeypatch):
    def end(_):
        raise ingestion.BrokenProcessPool("a process ended")

    log.write_bytes(line(1))
    monkeypatch.setattr(ingestion._Here, "__call__", lambda _self, chunk: end(chunk))
    with pytest.raises(Unavailable, match="same command again"):
        ingest(store, log, limits=Limits())


@pytest.mark.parametrize("replays", [False, True])
def test_a_line_cut_inside_a_character_leaves_no_letter(store, log, replays):
    name = json.dumps({**GOOD, "call_id": "c\u00e9"}, ensure_ascii=False).encode()
    log.write_bytes(line(1) + name[: name.index(b"\xc3") + 1])
    ingest(store, log)
    assert letters(store) == [("cut_short", 2)]
    if replays:
        with store.run() as run:
            assert replay(run, list(store.letters.list()), Work(Options())).left == 1
        assert letters(store) == [("cut_short", 2)]
    log.write_bytes(line(1) + name + b"\n")
    ingest(store, log)
    assert letters(store) == []


def test_a_last_line_of_other_bytes_is_not_cut_short(store, log):
    log.write_bytes(line(1) + b'{"a": "\xff \xc3')
    ingest(store, log)
    assert letters(store) == [("not_utf8", 2)]


def test_what_was_read_is_done_before_a_failure_of_reading_is_raised():
    class Ahead:
        ahead = 4

        def __call__(self, chunk):
            done = Future()
            done.set_result(chunk)
            return done

    read = [Chunk(name, "lines", b"", Position(), Position()) for name in "ab"]

    def chunks():
        yield from read
        raise InvalidInput("the disk is broken")

    done = ingestion._in_order(chunks(), Ahead())
    assert [next(done), next(done)] == read
    with pytest.raises(InvalidInput, match="broken"):
        next(done)
