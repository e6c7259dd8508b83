from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nilometer import ClientConfig, ClientManager, usage_context
from nilometer.errors import ConfigurationError
from nilometer.sdk.config import VARIABLES
from nilometer.sdk.manager import default_spool_dir
from nilometer.sdk.sinks.memory import MemorySink
from nilometer.sdk.sinks.opening import identity, open_sink
from tests.sdk.conftest import CALL, MakeManager

PAGE = Path(__file__).parents[2] / "docs/usage.md"


def test_the_environment_says_everything():
    config = ClientConfig.from_env(
        {
            "NILOMETER_SINK": "memory://, jsonl:///tmp/u.jsonl",
            "NILOMETER_API_KEY": "key",
            "OPENAI_API_KEY": "sk",
            "USER_ID": "u",
            "PINECONE_API_KEY": "p",
            "PINECONE_INDEX_NAME": "i",
            "PINECONE_HOST": "h",
            "MAX_RETRY_ATTEMPTS": "7",
            "RETRY_BASE_DELAY": "0.5",
            "CIRCUIT_BREAKER_THRESHOLD": "9",
            "CIRCUIT_BREAKER_TIMEOUT": "11.5",
            "BATCH_SIZE": "13",
            "BATCH_FLUSH_INTERVAL": "2.5",
        }
    )
    assert config.sinks == ("memory://", "jsonl:///tmp/u.jsonl")
    assert (config.api_key, config.openai_api_key, config.user_id) == ("key", "sk", "u")
    assert (config.max_retry_attempts, config.retry_base_delay) == (7, 0.5)
    assert (config.circuit_breaker_threshold, config.circuit_breaker_timeout) == (9, 11.5)
    assert (config.batch_size, config.flush_interval) == (13, 2.5)
    assert config.pinecone_index_name == "i"


def test_the_original_trackers_table_and_file_are_sinks(caplog: pytest.LogCaptureFixture):
    named = ClientConfig.from_env({"DYNAMODB_TABLE_NAME": "t", "TRACK_TO_FILE": "true"})
    assert named.sinks == ("dynamodb://t", f"jsonl://{Path('ai_usage.jsonl').absolute()}")
    with caplog.at_level(logging.WARNING):
        older = ClientConfig.from_env({"DYNAMO_TABLE_NAME": "old"})
    assert older.sinks == ("dynamodb://old",)
    assert "DYNAMODB_TABLE_NAME" in caplog.text
    both = {"NILOMETER_SINK": "memory://", "DYNAMODB_TABLE_NAME": "t"}
    assert ClientConfig.from_env(both).sinks == ("memory://",)


def test_tracking_batches_and_the_spool_can_be_turned_off():
    off = ClientConfig.from_env({"TRACK_AI_USAGE": "False"})
    assert (off.track_usage, off.sinks) == (False, ())
    plain = {"USE_RESILIENT_TRACKER": "0", "ENABLE_BATCH_PROCESSING": "no"}
    config = ClientConfig.from_env(plain | {"NILOMETER_SINK": "memory://"})
    assert (config.spool, config.batch_size) == (False, 1)


def test_given_fields_win():
    config = ClientConfig.from_env({"NILOMETER_SINK": "memory://", "USER_ID": "u"}, user_id="v")
    assert config.user_id == "v"


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({}, "sink"),
        ({"NILOMETER_SINK": "memory://", "BATCH_SIZE": "many"}, "BATCH_SIZE"),
        ({"NILOMETER_SINK": "memory://", "BATCH_SIZE": "0"}, "batch_size"),
        ({"NILOMETER_SINK": "memory://", "TRACK_AI_USAGE": "maybe"}, "TRACK_AI_USAGE"),
        ({"NILOMETER_SINK": "memory://", "RETRY_BASE_DELAY": "-1"}, "retry_base_delay"),
        ({"NILOMETER_SINK": "memory://", "PINECONE_HOST": "h"}, "pinecone_api_key"),
    ],
)
def test_what_cannot_be_read_is_named(variables: dict[str, str], named: str):
    with pytest.raises(ConfigurationError) as refused:
        ClientConfig.from_env(variables)
    assert refused.value.attr == named


def test_keys_are_not_shown():
    shown = repr(ClientConfig(sink="memory://", api_key="secret", openai_api_key="sk-1"))
    assert "secret" not in shown
    assert "sk-1" not in shown
    assert "sink='memory://'" in shown


@pytest.mark.parametrize(
    "url",
    [
        "ftp://x",
        "usage.jsonl",
        "jsonl://",
        "jsonl:///u?rotate=often",
        "jsonl:///u?sync=1",
        "jsonl:///u?rotate=0",
        "http://server:8000",
        "dynamodb://",
        "dynamodb://t?table=u",
    ],
)
def test_a_sink_that_is_none_is_refused(url: str):
    with pytest.raises(ConfigurationError):
        open_sink(url, None)


def test_the_spool_of_another_key_is_another():
    assert identity("http://s", "a") != identity("http://s", "b")
    assert "secret" not in identity("http://s", "secret")


def no_home() -> Path:
    raise RuntimeError("nobody knows where it is")


def test_a_spool_has_a_place_with_and_without_a_home(monkeypatch: Any, tmp_path: Path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "new" / "state"))
    assert default_spool_dir() == tmp_path / "new" / "state" / "nilometer" / "spool"
    monkeypatch.setattr("os.access", lambda *_: False)  # a disk that may only be read
    assert default_spool_dir().parent.name == f"nilometer-{os.getuid()}"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setattr(Path, "home", no_home)
    assert default_spool_dir().parent.name == f"nilometer-{os.getuid()}"


def test_every_variable_is_documented():
    page = PAGE.read_text()
    assert [name for name in VARIABLES if f"`{name}`" not in page] == []


def test_a_memory_sink_has_an_end(make_manager: MakeManager):
    manager = make_manager(MemorySink("small://", most=2))
    for _ in range(5):
        manager.tracker.record(**CALL)
    assert manager.flush(10)
    stats = manager.stats()
    assert (stats.stored, stats.dropped) == (2, {"memory_full": 3})


def test_the_managers_user_is_everyones_who_says_no_other(make_manager: MakeManager):
    manager = make_manager(user_id="default")
    manager.tracker.record(**CALL)
    manager.tracker.record(**CALL, user_id="mine", tags=["t"])
    with usage_context():  # where the setter's word ends
        manager.set_tracking_context(user_id="set")
        manager.tracker.record(**CALL)
        manager.set_tracking_context(user_id=None)
        manager.tracker.record(**CALL)
    assert manager.flush(10)
    assert [each.user_id for each in manager.sinks[0].metrics] == [
        "default",
        "mine",
        "set",
        "default",
    ]


def test_clients_without_their_package_say_so(make_manager: MakeManager, monkeypatch: Any):
    monkeypatch.setitem(__import__("sys").modules, "pinecone", None)
    manager = make_manager(pinecone_api_key="p", pinecone_index_name="i", pinecone_host="h")
    with pytest.raises(ConfigurationError, match="pinecone"):
        _ = manager.pinecone
    with pytest.raises(ConfigurationError, match="PINECONE_API_KEY"):
        _ = make_manager().pinecone


def test_table_names_are_checked_when_asked_for():
    with pytest.raises(ConfigurationError, match="-staging"):
        ClientManager(
            ClientConfig(sink="dynamodb://t", environment="staging", check_table_name=True)
        )


PRICED = """
[[override]]
id = "ours"
provider = "azure"
model = "chat"
effective_from = 2026-01-01
alias = "openai/gpt-4o-mini"
"""


@pytest.mark.parametrize("text", [None, "[[overide]]", PRICED.replace("azure", ""), PRICED * 2])
def test_a_wrong_file_of_prices_is_refused_before_any_call(
    tmp_path: Path, make_manager: MakeManager, text: str | None
):
    file = tmp_path / "prices.toml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigurationError, match="NILOMETER_PRICES_FILE") as refused:
        make_manager(prices_file=file)
    assert refused.value.attr == "prices_file"
    assert str(file) in refused.value.detail
    guarded = {"hard_stop": True, "budget_check": "http://127.0.0.1:1", "api_key": "k"}
    with pytest.raises(ConfigurationError, match="NILOMETER_PRICES_FILE"):
        make_manager("http://127.0.0.1:1", prices_file=file, **guarded)
    # A server prices what it gets: the file is nobody's here.
    make_manager("http://127.0.0.1:1", api_key="k", prices_file=file)


def test_a_file_of_prices_is_checked_without_loading_the_book(tmp_path: Path):
    file = tmp_path / "prices.toml"
    file.write_text(PRICED)
    code = (
        "import sys\nfrom nilometer import ClientConfig, ClientManager\n"
        f"ClientManager(ClientConfig(sink='memory://', prices_file={str(file)!r}))\n"
        "assert 'nilometer.pricing.files' in sys.modules\n"
        "assert 'genai_prices' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_one_sink_twice_is_a_mistake():
    with pytest.raises(ConfigurationError, match="twice"):
        ClientManager(ClientConfig(sink=["memory://", "memory://"]))
