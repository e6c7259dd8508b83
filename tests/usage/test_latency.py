"""Buckets of latency have places side by side, so that a distribution can be written as counts."""

from hypothesis import given
from hypothesis import strategies as st

from nilometer.usage import latency


@given(st.integers(0, latency.MAX_MICROS))
def test_a_place_names_its_bucket_and_no_other(micros):
    least = latency.bucket(micros / 1e6)
    assert latency.at(latency.place(least)) == least


def test_the_places_have_no_gap():
    buckets = sorted({latency.bucket(micros / 1e6) for micros in range(5000)})
    assert [latency.place(least) for least in buckets] == list(range(len(buckets)))
