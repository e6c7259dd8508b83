"""Checks are made beside each other, each within its time, and one never hides another."""

from __future__ import annotations

import threading
import time

from nilometer.doctor.finding import Check, Outcome, Verdict, failed, ok, skipped, warning
from nilometer.doctor.runner import run
from nilometer.errors import Unavailable


def raising(error: Exception) -> Verdict:
    raise error


def test_one_that_hangs_is_given_up_and_the_others_are_told():
    let_go = threading.Event()

    def hang() -> Verdict:
        let_go.wait(30)
        return ok("late")

    started = time.monotonic()
    hung, needing, well = run(
        [
            Check("hung", hang, remedy="Kick it.", seconds=0.2),
            Check("needing", lambda: ok(""), needs=("hung",)),
            Check("well", lambda: ok("fine")),
        ],
        seconds=60,
    )
    assert time.monotonic() - started < 15
    let_go.set()
    assert (hung.outcome, hung.found, hung.remedy) == (
        Outcome.FAILED,
        "No answer within 0.2 s.",
        "Kick it.",
    )
    assert (needing.outcome, needing.because) == (Outcome.SKIPPED, "hung")
    assert well.outcome is Outcome.OK


def test_what_cannot_begin_is_skipped_because_of_the_first_that_failed():
    found = run(
        [
            Check("third", lambda: ok(""), needs=("second",)),
            Check("second", lambda: ok(""), needs=("first",)),
            Check("first", lambda: failed("broken", "mend")),
        ],
        seconds=5,
    )
    assert [(each.name, each.because) for each in found] == [
        ("third", "first"),
        ("second", "first"),
        ("first", None),
    ]


def test_a_warning_stops_nothing_and_a_check_that_is_not_made_is_not_waited_for():
    first, second = run(
        [
            Check("first", lambda: warning("hm", "look")),
            Check("second", lambda: ok(""), needs=("first", "of another role")),
        ],
        seconds=5,
    )
    assert (first.outcome, second.outcome) == (Outcome.WARNING, Outcome.OK)


def test_what_had_nothing_to_look_at_says_why():
    def nothing() -> Verdict:
        return skipped("first", "There is none.")

    _, second, third = run(
        [
            Check("first", lambda: warning("none yet", "make one")),
            Check("second", nothing, needs=("first",)),
            Check("third", lambda: ok(""), needs=("second",)),
        ],
        seconds=5,
    )
    assert (second.outcome, second.because) == (Outcome.SKIPPED, "first")
    assert (third.outcome, third.because) == (Outcome.SKIPPED, "first")


def test_an_error_of_ours_is_told_and_another_s_text_is_not():
    ours, others = run(
        [
            Check("ours", lambda: raising(Unavailable("the disk is away")), remedy="Mount it."),
            Check("others", lambda: raising(ValueError("password=hunter2"))),
        ],
        seconds=5,
    )
    assert (ours.outcome, ours.found, ours.remedy) == (
        Outcome.FAILED,
        "The disk is away.",
        "Mount it.",
    )
    assert others.outcome is Outcome.FAILED
    assert "ValueError" in others.found
    assert "hunter2" not in others.found


def test_checks_that_need_nothing_run_beside_each_other():
    meeting = threading.Barrier(3)

    def meet() -> Verdict:
        meeting.wait(5)  # breaks unless all three are there at once
        return ok("")

    found = run([Check(str(number), meet) for number in range(3)], seconds=10)
    assert {each.outcome for each in found} == {Outcome.OK}
