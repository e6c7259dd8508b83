"""A clock is found wrong by what a request can prove, and not by how long it took."""

import pytest

from nilometer.doctor.clocks import judged, skew


@pytest.mark.parametrize(
    ("told", "resolution", "expected"),
    [
        (100.0, 0, 0.0),
        (100.5, 0, 0.0),  # within the request
        (105.0, 0, 4.0),
        (90.0, 0, -10.0),
        (99.0, 1, 0.0),  # an HTTP date: up to a second early
        (97.0, 1, -2.0),
    ],
)
def test_only_what_the_request_cannot_explain_counts(told, resolution, expected):
    assert skew(told, 100.0, 101.0, resolution=resolution) == expected


@pytest.mark.parametrize(
    ("seconds", "outcome", "said"),
    [
        (0.0, "ok", "agrees"),
        (-1.0, "ok", "agrees"),
        (3.0, "warning", "3.0 s ahead of"),
        (-3.0, "warning", "3.0 s behind"),
        (901.0, "failed", "901.0 s ahead of"),
    ],
)
def test_seconds_are_a_warning_and_a_quarter_of_an_hour_a_failure(seconds, outcome, said):
    verdict = judged("S3", seconds)
    assert verdict.outcome == outcome
    assert said in verdict.found
