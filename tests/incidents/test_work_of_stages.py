"""How long a stage's transaction may take for what expressions compare: others wait for it."""

import time

from nilometer.incidents import effort
from nilometer.incidents.incident import NewException
from tests.incidents.handling import PACK

HEAVY = {"m": {f"k{i}": [{"a": j} for j in range(35)] for i in range(400)}}
SAME = "{{ exception.payload == exception.payload }}"


def commenting(steps, text):
    """A pack with a playbook of so many steps that need nobody."""
    made = [{"name": f"c{at}", "comment": text, "on_failure": "continue"} for at in range(steps)]
    return {**PACK, "playbooks": [{"name": "say", "steps": made}]}


def heavy():
    return NewException("order_failed", "shop", payload=HEAVY)


def transactions(handling, monkeypatch):
    """How many tasks each transaction that was done had, of the stages that evaluate, and its
    seconds of processor."""
    done = []
    for runner in handling.stages[:-1]:
        stage = runner._stage
        work = stage.work

        def timed(session, tasks, now, work=work):
            began = time.thread_time()
            work(session, tasks, now)
            done.append((len(tasks), time.thread_time() - began))

        monkeypatch.setattr(stage, "work", timed)
    return done


def test_all_steps_that_need_nobody_share_what_they_may_compare(handling, monkeypatch):
    handling.use(commenting(50, "x" + SAME * 12))
    done = transactions(handling, monkeypatch)
    given = handling.one(heavy())
    handling.run()
    steps = [each["status"] for each in handling.incident(given).steps.values()]
    told = handling.told(given, "StepCompleted")
    assert len(steps) == len(told) == 50
    assert steps == sorted(steps, reverse=True)
    assert steps.count("succeeded") > 0
    assert steps.count("failed") > 30
    assert "compared too much" in told[-1].detail
    # It was 20 s.
    assert max(took for _, took in done) < 6


def test_what_is_too_much_for_one_transaction_is_done_apart(handling, monkeypatch):
    handling.use(commenting(2, "of {{ exception.payload.order }}"))
    monkeypatch.setattr(effort, "MAX_WORK_OF_BATCH", 1)
    done = transactions(handling, monkeypatch)
    orders = [NewException("order_failed", "shop", payload={"order": at}) for at in range(4)]
    accepted = handling.accept(*orders)
    handling.run()
    for at, each in enumerate(accepted):
        said = [told.text for told in handling.told(each.exception_id, "CommentAdded")]
        assert said == [f"of {at}"] * 2
    assert not handling.letters()
    assert {tasks for tasks, _ in done} == {1}
