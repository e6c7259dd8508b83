from __future__ import annotations

import asyncio
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from nilometer import (
    ContextThreadPoolExecutor,
    ai_usage_context,
    ai_usage_tracked,
    batch_ai_usage_context,
    batch_usage_context,
    carry_context,
    tracked,
    usage_context,
)
from nilometer.errors import InvalidInput
from nilometer.sdk.context import current, set_scopes
from nilometer.sdk.scopes import NOTHING
from tests.sdk.conftest import CALL, MakeManager


def test_a_block_says_whose_the_calls_inside_are_and_ends():
    with usage_context(job_id="j", user_id="u", github_pr=7) as scopes:
        assert current() is scopes
        assert (scopes.job_id, scopes.user_id, scopes.github_pr) == ("j", "u", 7)
    assert current() is NOTHING


def test_inner_blocks_add_to_outer_ones():
    outer = usage_context(job_id="outer", environment="production", tags=["a"], metadata={"x": 1})
    with outer, usage_context(job_id="inner", tags={"b": 2}, metadata={"y": 2}):
        found = current()
        assert (found.job_id, found.environment) == ("inner", "production")
        assert found.tags == ("a", "b:2")
        assert found.metadata == {"x": 1, "y": 2}
        with batch_usage_context("b-7"):
            assert (current().job_id, current().batch_id) == ("inner", "b-7")
        assert current().batch_id is None
    assert current() is NOTHING


def test_none_clears_what_the_outer_block_says():
    with usage_context(job_id="outer", tags=["a"], metadata={"x": 1}):
        with usage_context(job_id=None, tags=None, metadata=None):
            assert current() == NOTHING
        assert current().job_id == "outer"


def test_an_error_ends_the_block_too():
    with pytest.raises(ZeroDivisionError), usage_context(job_id="j"):
        raise ZeroDivisionError
    assert current() is NOTHING


def test_one_block_may_be_entered_many_times():
    block = usage_context(job_id="j")
    with block, block:
        assert current().job_id == "j"
    with block:
        assert current().job_id == "j"
    assert current() is NOTHING


def test_ids_of_other_types_become_text_and_long_ones_stay_distinct():
    with usage_context(job_id=12, user_id="x" * 5000 + "a"):
        first = current().user_id
        assert current().job_id == "12"
    with usage_context(user_id="x" * 5000 + "b"):
        assert first is not None
        assert len(first) == 1024
        assert current().user_id != first


def test_mistakes_show_where_they_are_made():
    with pytest.raises(InvalidInput):
        usage_context(tags=5)
    with pytest.raises(TypeError, match="jobid"):
        tracked(jobid="j")
    with pytest.raises(TypeError):
        usage_context(jobid="j")


def test_the_older_names_are_the_same():
    assert ai_usage_context is usage_context
    assert batch_ai_usage_context is batch_usage_context
    assert ai_usage_tracked is tracked


def test_a_setter_holds_until_the_block_or_thread_ends():
    with usage_context(job_id="j"):
        set_scopes({"job_id": "k", "batch_id": "b"})
        assert (current().job_id, current().batch_id) == ("k", "b")
        set_scopes({"job_id": None})
        assert current().job_id is None
    assert current() is NOTHING


def test_a_decorated_function_runs_in_its_scopes():
    @tracked
    def bare(job_id=None):
        return job_id, current().job_id

    @tracked(repository="r")
    def full(**_):
        return current()

    assert bare(job_id="lifted") == ("lifted", "lifted")
    found = full(user_id="u", batch_id="b", github_pr=3)
    assert (found.repository, found.user_id, found.batch_id, found.github_pr) == ("r", "u", "b", 3)
    assert bare.__name__ == "bare"
    assert current() is NOTHING


def test_a_decorated_coroutine_runs_in_its_scopes():
    @tracked(job_id="j")
    async def work():
        await asyncio.sleep(0)
        return current().job_id

    async def both():
        async with usage_context(user_id="u"):
            return await work(), current().job_id

    assert asyncio.run(both()) == ("j", None)


def test_a_decorated_generator_keeps_its_scopes_to_itself():
    ended = []

    @tracked(job_id="inner")
    def steps():
        try:
            got = yield current().job_id
            yield got
        except KeyError:
            yield "caught"
        finally:
            ended.append(current().job_id)
        return "end"

    with usage_context(job_id="outer"):
        generator = steps()
        assert next(generator) == "inner"
        assert current().job_id == "outer"
        assert generator.send("sent") == "sent"
        assert generator.throw(KeyError()) == "caught"
        with pytest.raises(StopIteration) as stopped:
            next(generator)
        assert stopped.value.value == "end"
        assert ended == ["inner"]
        abandoned = steps()
        next(abandoned)
        abandoned.close()
        assert ended == ["inner", "inner"]
        assert current().job_id == "outer"


def test_a_decorated_async_generator_keeps_its_scopes_to_itself():
    ended = []

    @tracked(job_id="inner")
    async def steps():
        try:
            yield current().job_id
            got = yield "second"
            yield got
        except KeyError:
            yield "caught"
        finally:
            ended.append(current().job_id)

    async def consume():
        generator = steps()
        seen = [await anext(generator), current().job_id, await anext(generator)]
        seen.append(await generator.asend("sent"))
        seen.append(await generator.athrow(KeyError()))
        seen += [each async for each in generator]
        abandoned = steps()
        await anext(abandoned)
        await abandoned.aclose()
        return seen

    assert asyncio.run(consume()) == ["inner", None, "second", "sent", "caught"]
    assert ended == ["inner", "inner"]


def test_a_block_left_open_inside_does_not_outlive_the_outer_one():
    def careless():
        with usage_context(job_id="leaked"):
            yield

    with usage_context(job_id="outer"):
        generator = careless()
        next(generator)
        assert current().job_id == "leaked"  # why generators are better decorated
    assert current() is NOTHING
    generator.close()
    assert current() is NOTHING


def job_of_here():
    return current().job_id


def test_a_pool_gets_the_context_by_carrying_it():
    with usage_context(job_id="j"), ThreadPoolExecutor(2) as plain:
        assert plain.submit(job_of_here).result() is None
        assert list(plain.map(lambda f: f(), [carry_context(job_of_here)] * 8)) == ["j"] * 8
        thread_saw = []
        thread = threading.Thread(target=carry_context(lambda: thread_saw.append(job_of_here())))
        thread.start()
        thread.join()
        assert thread_saw == ["j"]
    with ContextThreadPoolExecutor(2) as pool:
        with usage_context(job_id="k"):
            submitted = pool.submit(job_of_here)
            mapped = pool.map(lambda _: job_of_here(), range(4))
        assert submitted.result() == "k"
        assert list(mapped) == ["k"] * 4
        assert pool.submit(job_of_here).result() is None


def test_a_carried_function_can_be_sent_to_another_process():
    with usage_context(job_id="j", metadata={"a": 1}):
        sent = pickle.dumps(carry_context(job_of_here))
    assert pickle.loads(sent)() == "j"


def test_200_threads_on_one_manager_are_never_confused(make_manager: MakeManager):
    manager = make_manager()
    barrier = threading.Barrier(200)

    def work(number: int) -> None:
        barrier.wait()
        with usage_context(job_id=f"job-{number}", batch_id=f"batch-{number}"):
            for call in range(3):
                manager.tracker.record(**CALL, metadata={"of": number, "call": call})
        manager.set_tracking_context(job_id=f"set-{number}")
        manager.tracker.record(**CALL, metadata={"of": number, "set": True})

    threads = [threading.Thread(target=work, args=(number,)) for number in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert manager.flush(30)
    metrics = manager.sinks[0].metrics
    assert len(metrics) == 800
    wrong = [
        each
        for each in metrics
        if each.job_id != f"{'set' if 'set' in each.metadata else 'job'}-{each.metadata['of']}"
        or (each.batch_id != f"batch-{each.metadata['of']}" and "set" not in each.metadata)
    ]
    assert wrong == []


def test_200_tasks_on_one_manager_are_never_confused(make_manager: MakeManager):
    manager = make_manager()

    async def work(number: int) -> None:
        async with usage_context(job_id=f"job-{number}"):
            for _ in range(3):
                await asyncio.sleep(0)
                manager.tracker.record(**CALL, metadata={"of": number})
                await asyncio.to_thread(manager.tracker.record, **CALL, metadata={"of": number})

    async def every() -> None:
        await asyncio.gather(*map(work, range(200)))

    asyncio.run(every())
    assert manager.flush(30)
    metrics = manager.sinks[0].metrics
    assert len(metrics) == 1200
    assert [each for each in metrics if each.job_id != f"job-{each.metadata['of']}"] == []
    assert current() is NOTHING
