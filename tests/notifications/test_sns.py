"""Amazon SNS, as moto answers for it."""

import json

import boto3
import pytest
from moto.server import ThreadedMotoServer

from nilometer.errors import InvalidInput
from nilometer.notifications.channels.sns import Sns, region, request
from nilometer.notifications.failures import PermanentFailure, TemporaryFailure
from tests.notifications.telling import told

KEYS = {"aws_access_key_id": "k", "aws_secret_access_key": "a-secret"}
TOPIC = "arn:aws:sns:eu-central-1:123456789012:spend"


@pytest.fixture(scope="module")
def endpoint():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="module")
def subscribed(endpoint):
    """A topic, and what its queue has been sent."""
    given = {"endpoint_url": endpoint, "region_name": "eu-central-1", **KEYS}
    sns, sqs = boto3.client("sns", **given), boto3.client("sqs", **given)
    topic = sns.create_topic(Name="spend")["TopicArn"]
    queue = sqs.create_queue(QueueName="spend")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn["Attributes"]["QueueArn"])
    return topic, lambda: sqs.receive_message(QueueUrl=queue)["Messages"]


def channel(endpoint, topic=TOPIC, **more):
    return Sns(topic, "k", "a-secret", endpoint_url=endpoint, **more)


def test_a_queue_gets_the_json_of_webhooks_with_attributes(endpoint, subscribed):
    topic, messages = subscribed
    notification = told()
    channel(endpoint, topic).send(notification)
    [message] = messages()
    envelope = json.loads(message["Body"])
    assert json.loads(envelope["Message"])["data"]["id"] == notification.id
    assert envelope["Subject"] == "Budget research: 80 % of 100 USD"
    attributes = {k: v["Value"] for k, v in envelope["MessageAttributes"].items()}
    assert attributes == {
        "id": notification.id,
        "kind": "budget.threshold",
        "severity": "warning",
        "project_id": "7",
    }


def test_people_get_text_and_a_subject_that_sns_takes():
    made = request(TOPIC, told(title="Über 80 %: " + "x" * 200, project_id=None))
    assert made["Subject"].startswith("?ber 80 %: xxx")
    assert (len(made["Subject"]), made["Subject"].isascii()) == (100, True)
    assert json.loads(made["Message"])["default"].startswith("Über 80 %")
    assert "project_id" not in made["MessageAttributes"]
    assert "MessageGroupId" not in made


def test_a_fifo_topic_tells_repetitions_itself():
    notification = told()
    made = request(TOPIC + ".fifo", notification)
    assert (made["MessageGroupId"], made["MessageDeduplicationId"]) == (
        "project-7",
        notification.id,
    )


def test_a_topic_that_is_not_there_is_final(endpoint):
    with pytest.raises(PermanentFailure) as failed:
        channel(endpoint, TOPIC + "-unknown").send(told())
    assert "a-secret" not in failed.value.detail + repr(channel(endpoint))


def test_a_server_that_is_away_is_a_temporary_failure():
    with pytest.raises(TemporaryFailure) as failed:
        channel("http://127.0.0.1:1").send(told())
    assert failed.value.code == "unreachable"


def test_without_credentials_it_is_final(endpoint, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    with pytest.raises(PermanentFailure) as failed:
        Sns(TOPIC, endpoint_url=endpoint).send(told())
    assert failed.value.code == "no_credentials"


@pytest.mark.parametrize(
    "topic",
    [
        *("", "spend", "arn:aws:s3:::bucket", "arn:aws:sns:eu-central-1:1:x"),
        "arn:aws:sns:evil.example/:123456789012:x",
        "arn:aws:sns:eu-central-1:123456789012:x:subscription",
    ],
)
def test_what_is_no_topic_is_refused(topic):
    with pytest.raises(InvalidInput):
        region(topic)
    assert region("arn:aws-us-gov:sns:us-gov-west-1:123456789012:x") == "us-gov-west-1"
