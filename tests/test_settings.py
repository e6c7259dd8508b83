"""A wrong setting is told in one line: its name and what to give instead, never its value."""

import pytest

from nilometer import settings
from nilometer.errors import ConfigurationError

ENDPOINT = "NILOMETER_S3_ENDPOINT: give https://host, or http://host:port"


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        (
            "NILOMETER_BLOBS_URL",
            "ftp://secret",
            "NILOMETER_BLOBS_URL: give file:///directory or s3://bucket",
        ),
        ("NILOMETER_BLOBS_URL", "s3://", "NILOMETER_BLOBS_URL: name a bucket: s3://bucket"),
        (
            "NILOMETER_BLOBS_URL",
            "s3://bucket/secret",
            "NILOMETER_BLOBS_URL: give a bucket of its own, without a path: s3://bucket",
        ),
        ("NILOMETER_S3_ENDPOINT", "localhost:9000", ENDPOINT),
        ("NILOMETER_S3_ENDPOINT", "https://secret:port", ENDPOINT),
        (
            "NILOMETER_S3_ENDPOINT",
            "https://user:secret@host",
            "NILOMETER_S3_ENDPOINT: give it without user and password: AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY are for these",
        ),
        ("NILOMETER_PORT", "70000", "NILOMETER_PORT: Input should be less than or equal to 65535"),
    ],
)
def test_a_wrong_setting_is_told_by_its_name_and_remedy(monkeypatch, name, value, line):
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as caught:
        settings.load()
    assert caught.value.detail == line  # the value may be a secret: it is not in it


def test_projects_have_the_weights_that_are_named():
    assert settings.read_weights(" 7=4, 12 = 2,") == {7: 4, 12: 2}
    for wrong in ("7", "7=", "a=1", "7=0", "7=1001", "7=-1"):
        with pytest.raises(ValueError, match="weight"):
            settings.read_weights(wrong)
