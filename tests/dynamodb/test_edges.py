"""What the connection, the table, the keys and the writer do at their edges."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from nilometer.dynamodb import client, folding, schema, table, writer
from nilometer.dynamodb.sink import DynamoSink
from nilometer.errors import ConfigurationError, InvalidInput
from tests.dynamodb.conftest import Table
from tests.dynamodb.test_sink import Faulty, totals
from tests.usage.metrics import metric

ADDRESS = "http://127.0.0.1:1"


def test_a_region_comes_from_the_url_or_from_either_variable(monkeypatch: pytest.MonkeyPatch):
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    with pytest.raises(ConfigurationError, match="AWS_REGION"):
        client.connect(region=None, endpoint_url=ADDRESS)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-3")
    assert client.connect(region=None, endpoint_url=ADDRESS).meta.region_name == "eu-west-3"
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert client.connect(region=None, endpoint_url=ADDRESS).meta.region_name == "eu-west-1"
    found = client.connect(region="eu-west-2", endpoint_url=ADDRESS)
    assert found.meta.region_name == "eu-west-2"


def test_without_boto3_one_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch):
    def missing(name: str) -> Any:
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr(client, "import_module", missing)
    with pytest.raises(ConfigurationError, match=r"nilometer\[dynamodb\]"):
        client.connect(region="eu-west-1", endpoint_url=ADDRESS)


def test_the_client_writes_what_botocore_would(local: Table, monkeypatch: pytest.MonkeyPatch):
    """Texts, numbers and bytes of a transaction, read back by a client of boto3's own."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "nilometer")
    ours = client.connect(region="us-east-1", endpoint_url=local.dynamodb.meta.endpoint_url)
    item = {
        "PK": {"S": "é#1"},
        "SK": {"S": '"\\\n'},
        "number": {"N": "0.000045"},
        "bytes": {"B": bytes(range(256))},
        "list": {"L": [{"NULL": True}, {"S": ""}]},
    }
    put = {"Put": {"TableName": local.name, "Item": item}}
    ours.transact_write_items(TransactItems=[put])
    assert local.items() == [item]
    unlike = {**put["Put"], "ConditionExpression": "attribute_not_exists(PK)"}
    with pytest.raises(ClientError) as refused:
        ours.transact_write_items(TransactItems=[{"Put": unlike}])
    assert client.reasons(refused.value) == ["ConditionalCheckFailed"]


def test_a_table_may_be_recovered_to_any_moment_when_that_is_asked_for(moto_client: Any):
    assert table.create(moto_client, "recovered", recover=True, sleep=lambda _: None)
    found = moto_client.describe_continuous_backups(TableName="recovered")
    backups = found["ContinuousBackupsDescription"]["PointInTimeRecoveryDescription"]
    assert backups["PointInTimeRecoveryStatus"] == "ENABLED"
    moto_client.delete_table(TableName="recovered")


def test_one_waits_for_a_table_until_it_is_there(local: Table, monkeypatch: pytest.MonkeyPatch):
    class Slow:
        """Says CREATING so many times."""

        def __init__(self, times: int) -> None:
            self.times = times

        def __getattr__(self, name: str) -> Any:
            return getattr(local.dynamodb, name)

        def describe_table(self, **named: Any) -> Any:
            found = local.dynamodb.describe_table(**named)
            self.times -= 1
            if self.times >= 0:
                found["Table"]["TableStatus"] = "CREATING"
            return found

    pauses: list[float] = []
    assert not table.create(Slow(3), local.name, sleep=pauses.append)
    assert len(pauses) == 3
    monkeypatch.setattr(table, "_SECONDS", 0)
    with pytest.raises(ConfigurationError, match="not active"):
        table.create(Slow(10**9), local.name, sleep=lambda _: None)


def test_long_names_are_short_keys_that_stay_two():
    long = "é" * 500
    assert schema.key_part("job#1") == "job%231"
    assert len(schema.key_part(long).encode()) <= 200
    assert schema.key_part(long) != schema.key_part(long + "é")


def test_an_item_of_a_later_schema_is_refused():
    item = schema.item(metric()) | {"schema_version": {"N": "99"}}
    with pytest.raises(InvalidInput):
        schema.metric(item)


def test_a_metric_that_dynamodb_refuses_in_a_transaction_fails_alone(local: Table):
    class Picky(Faulty):
        """Refuses one item, by its place, as DynamoDB does one that is too large."""

        def transact_write_items(self, **request: Any) -> None:
            bad = [
                "Put" in each and each["Put"]["Item"].get("job_id") == {"S": "bad"}
                for each in request["TransactItems"]
            ]
            if any(bad):
                reasons = [{"Code": "ValidationError" if each else "None"} for each in bad]
                error = {"Error": {"Code": "TransactionCanceledException"}}
                raise ClientError(error | {"CancellationReasons": reasons}, "TransactWriteItems")
            super().transact_write_items(**request)

    metrics = [metric(user_id="u", job_id="bad" if n == 2 else "good") for n in range(5)]
    [failed] = DynamoSink(local.name, dynamodb=Picky(local.dynamodb)).store(metrics)
    assert (failed.metric, failed.reason, failed.permanent) == (metrics[2], "ValidationError", True)
    assert totals(local)["summary"]["call_count"] == 4


def test_documents_that_a_writer_has_forgotten_are_read_again(
    local: Table, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(folding, "_KEPT_DOCUMENTS", 1)
    monkeypatch.setattr(writer, "_KEPT_DAYS", 1)
    monkeypatch.setattr(writer, "FOLD_AT", 1)
    sink = local.sink(writers=1)
    for number in range(6):
        assert sink.store([metric(user_id=f"u-{number % 2}")]) == []
    assert totals(local)["aggregations"]["by_user"]["u-0"]["call_count"] == 3


def test_items_are_kept_for_ever_when_that_is_asked_for(local: Table):
    assert local.sink(ttl_days=None).store([metric()]) == []
    assert not any(schema.TTL in item for item in local.items())


def test_a_client_of_boto3s_own_serves_too(local: Table):
    """As a test, or a host with a session of its own, gives one."""
    own = boto3.client(
        "dynamodb",
        endpoint_url=local.dynamodb.meta.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id="nilometer",
        aws_secret_access_key="nilometer",
    )
    assert DynamoSink(local.name, dynamodb=own).store([metric()]) == []
