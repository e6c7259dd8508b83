"""What is enqueued is sent at least once or seen to have failed, and nobody waits for another."""

import threading
from datetime import timedelta

import pytest
from sqlalchemy import select

from nilometer.database.engine import Database
from nilometer.database.fence import EVERY_ROW
from nilometer.errors import InvalidInput
from nilometer.notifications import reach
from nilometer.notifications.channels import ChannelKind
from nilometer.notifications.claims import LEASE, PROJECT_PLACES, Claims
from nilometer.notifications.deliverer import Deliverer
from nilometer.notifications.failures import TemporaryFailure
from nilometer.notifications.outbox import check_channels, enqueue
from nilometer.notifications.tables import DeliveryRow, State
from tests.notifications.receivers import receiving
from tests.notifications.telling import LOOPBACK, told
from tests.running import wait_until


def test_a_notification_is_there_when_its_transaction_is_and_not_otherwise(outbox, receiver):
    channel = outbox.channel(receiver.url)

    def fail() -> None:
        with outbox.database.session(EVERY_ROW) as session:
            enqueue(session, outbox.project, told(), [channel.id])
            raise KeyError("undone")

    with pytest.raises(KeyError):
        fail()
    assert outbox.deliverer.run_once() == 0
    kept = outbox.tell()
    assert outbox.only().state is State.WAITING
    assert outbox.deliverer.run_once() == 1
    assert receiver.ids == [kept.id]
    delivery = outbox.only()
    assert (delivery.state, delivery.attempts, delivery.error) == (State.DELIVERED, 1, None)
    assert delivery.notification == kept.to_json()
    assert outbox.deliverer.run_once() == 0


def test_every_channel_of_the_project_is_told_once_and_no_others(outbox, receiver):
    mine = [outbox.channel(receiver.url, name) for name in ("one", "two")]
    outbox.channel(receiver.url, "theirs", outbox.other)
    notification = told()
    for _ in range(2):  # whoever is not sure that it was committed may say it again
        with outbox.database.session(EVERY_ROW) as session:
            enqueue(session, outbox.project, notification)
            enqueue(session, outbox.project, notification, [mine[0].id])
    assert sorted(each.channel_name for each in outbox.listed()) == ["one", "two"]
    assert outbox.listed(outbox.other) == []


def test_that_a_channel_is_no_more_is_not_lost(outbox, receiver):
    gone, theirs = outbox.channel(receiver.url), outbox.channel(receiver.url, "x", outbox.other)
    waiting = outbox.tell(gone)
    outbox.channels.remove(outbox.project, gone.id)
    outbox.tell(gone)
    outbox.tell(theirs)  # of another project: as if there were none
    assert outbox.deliverer.run_once() == 0
    told = [(each.state, each.error_code) for each in outbox.listed()]
    assert told == [(State.FAILED, "no_channel")] * 3
    assert waiting.id in {each.notification["id"] for each in outbox.listed()}
    with outbox.database.read(EVERY_ROW) as session:
        for unknown in (gone.id, theirs.id, "x"):
            with pytest.raises(InvalidInput):
                check_channels(session, outbox.project, [unknown])


def test_what_fails_for_now_is_tried_again_with_the_same_id(outbox, receiver):
    outbox.channel(receiver.url)
    receiver.answer(500).answer(429, Retry_After="120")
    notification = outbox.tell()
    assert outbox.deliverer.run_once() == 1
    first = outbox.only()
    assert (first.state, first.error) == (State.WAITING, "The receiver answered 500.")
    assert timedelta(seconds=2) <= first.due_at - outbox.now <= timedelta(seconds=5)
    assert outbox.deliverer.run_once() == 0
    outbox.later(seconds=5)
    assert outbox.deliverer.run_once() == 1
    assert outbox.only().due_at >= outbox.now + timedelta(seconds=120)
    outbox.later(seconds=121)
    assert outbox.deliverer.run_once() == 1
    assert outbox.only().state is State.DELIVERED
    assert receiver.ids == [notification.id] * 3
    assert len({each.headers["webhook-timestamp"] for each in receiver.received}) >= 1


def test_what_is_refused_has_failed_at_once_and_can_be_replayed(outbox, receiver):
    outbox.channel(receiver.url)
    receiver.answer(400)
    notification = outbox.tell()
    outbox.deliverer.run_once()
    failed = outbox.only()
    assert (failed.state, failed.error_code, failed.attempts) == (State.FAILED, "http_400", 1)
    replayed = outbox.deliveries.replay(outbox.project, failed.id)
    assert (replayed.state, replayed.attempts) == (State.WAITING, 0)
    outbox.later(seconds=1)
    assert outbox.deliverer.run_once() == 1
    assert outbox.only().state is State.DELIVERED
    assert receiver.ids == [notification.id] * 2


def test_it_is_given_up_after_a_day_of_trying_and_visible_then(sqlite_outbox, receiver):
    outbox = sqlite_outbox
    outbox.channel(receiver.url)
    for _ in range(60):
        receiver.answer(503)
    outbox.tell()
    end = outbox.only().give_up_at
    assert end - outbox.only().created_at == timedelta(hours=24)
    attempts = 0
    while outbox.only().state is State.WAITING:
        outbox.now = max(outbox.now, outbox.only().due_at)
        attempts += outbox.deliverer.run_once()
    assert outbox.now == end
    assert (outbox.only().state, outbox.only().attempts) == (State.FAILED, attempts)
    assert 30 <= attempts <= 60
    assert outbox.only().error == "The receiver answered 503."


def test_a_worker_that_dies_loses_its_lease_and_nothing_else(outbox, receiver):
    outbox.channel(receiver.url)
    notification = outbox.tell()
    [lost] = outbox.claims.claim(8, outbox.now)  # its worker is gone from here on
    assert outbox.deliverer.run_once() == 0
    outbox.later(seconds=LEASE.total_seconds())
    assert outbox.deliverer.run_once() == 1
    assert receiver.ids == [notification.id]
    assert (outbox.only().state, outbox.only().attempts) == (State.DELIVERED, 2)
    # It was only slow: what it says now changes nothing.
    failure = TemporaryFailure("late")
    assert not outbox.claims.postponed(lost, failure, outbox.now, outbox.now)
    assert not outbox.claims.failed(lost, failure, outbox.now)
    assert outbox.only().state is State.DELIVERED


def test_a_clock_that_was_weeks_ahead_keeps_nothing_for_weeks(sqlite_outbox, receiver):
    outbox = sqlite_outbox
    outbox.channel(receiver.url)
    sent = [outbox.tell(), outbox.tell()]
    outbox.later(weeks=3)
    outbox.claims.claim(1, outbox.now)  # and gone
    outbox.later(weeks=-3)
    assert outbox.deliverer.run_once() == 1
    with outbox.database.session(EVERY_ROW) as session:
        for row in session.scalars(select(DeliveryRow).where(DeliveryRow.attempts == 0)):
            row.due_at += timedelta(weeks=3)
    assert outbox.deliverer.run_once() == 1
    assert sorted(receiver.ids) == sorted(each.id for each in sent)


def test_two_workers_never_send_the_same(outbox, receiver):
    for name in "abcd":
        outbox.channel(receiver.url, name)
    sent = [outbox.tell() for _ in range(5)]
    other = Database(outbox.database.url.render_as_string(hide_password=False))
    deliverers = [
        Deliverer(Claims(each), outbox.egress, interval=0.02, now=lambda: outbox.now)
        for each in (outbox.database, other)
    ]
    try:
        for each in deliverers:
            each.start()
        wait_until(lambda: len(receiver.received) >= 20, what="all sent")
    finally:
        for each in deliverers:
            each.stop()
        other.close()
    assert sorted(receiver.ids) == sorted([each.id for each in sent] * 4)
    assert {each.state for each in outbox.listed()} == {State.DELIVERED}


def test_a_receiver_that_hangs_keeps_nobody_else_waiting(outbox):
    with receiving() as slow, receiving() as fast:
        slow.gate.clear()
        hanging = [outbox.channel(slow.url, f"slow-{number}") for number in range(4)]
        mine = outbox.channel(fast.url, "fast")
        theirs = outbox.channel(fast.url, "fast", outbox.other)
        for _ in range(10):
            for each in hanging[:1]:
                outbox.tell(each)
        outbox.later(seconds=1)
        outbox.tell(mine)
        outbox.tell(theirs, outbox.other)
        for each in hanging:
            outbox.tell(each)
        deliverer = Deliverer(outbox.claims, outbox.egress, interval=0.02, now=lambda: outbox.now)
        deliverer.start()
        try:
            wait_until(lambda: len(fast.received) == 2, what="the others are sent")
            # One of a channel and two of a project, however many wait and places there are.
            assert len(slow.received) <= PROJECT_PLACES
        finally:
            slow.gate.set()
            deliverer.stop()


def test_a_channel_has_one_attempt_at_a_time(outbox, receiver):
    outbox.channel(receiver.url)
    for _ in range(3):
        outbox.tell()
    [claim] = outbox.claims.claim(8, outbox.now)
    assert outbox.claims.claim(8, outbox.now) == []
    assert not outbox.claims.due(outbox.now - timedelta(days=1))
    assert outbox.claims.delivered(claim, outbox.now)
    assert len(outbox.claims.claim(8, outbox.now)) == 1


def test_places_go_to_every_project_before_any_has_a_second(sqlite_outbox, receiver):
    outbox = sqlite_outbox
    for number in range(3):
        outbox.channel(receiver.url, str(number))
    theirs = outbox.channel(receiver.url, "theirs", outbox.other)
    for _ in range(3):
        outbox.tell()
    outbox.later(seconds=1)
    outbox.tell(theirs, outbox.other)
    first = outbox.claims.claim(2, outbox.now)
    assert {each.project_id for each in first} == {outbox.project, outbox.other}
    second = outbox.claims.claim(8, outbox.now)
    assert [each.project_id for each in second] == [outbox.project]
    assert outbox.claims.claim(8, outbox.now) == []


def test_a_notification_that_cannot_be_read_waits_alone(sqlite_outbox, receiver):
    """A newer release may have put something there that this one does not know."""
    outbox = sqlite_outbox
    strange, good = outbox.channel(receiver.url, "a"), outbox.channel(receiver.url, "b")
    outbox.tell(strange)
    outbox.tell(good)
    with outbox.database.session(EVERY_ROW) as session:
        session.connection().exec_driver_sql(
            "UPDATE notification_deliveries SET notification = json_set(notification, "
            "'$.severity', 'newer') WHERE channel_name = 'a'"
        )
    assert outbox.deliverer.run_once() == 2
    assert len(receiver.received) == 1
    told = {each.channel_name: (each.state, each.error_code) for each in outbox.listed()}
    assert told == {"a": (State.WAITING, "defect"), "b": (State.DELIVERED, None)}


def test_a_wake_sends_without_waiting_for_the_next_look(sqlite_outbox, receiver):
    outbox = sqlite_outbox
    outbox.channel(receiver.url)
    deliverer = Deliverer(outbox.claims, outbox.egress, interval=3600, now=lambda: outbox.now)
    deliverer.start()
    try:
        outbox.tell()
        deliverer.wake()
        wait_until(lambda: receiver.received, seconds=10, what="sent")
    finally:
        deliverer.stop()
    assert outbox.only().state is State.DELIVERED  # stopping waits for what is under way


def test_the_old_is_pruned_and_what_failed_is_kept_for_longer(sqlite_outbox, receiver):
    outbox = sqlite_outbox
    outbox.channel(receiver.url)
    outbox.tell()
    outbox.deliverer.run_once()
    receiver.answer(400)
    outbox.tell()
    outbox.deliverer.run_once()
    outbox.tell()
    outbox.later(days=29)
    assert outbox.claims.prune(outbox.now) == 0
    outbox.later(days=2)
    assert outbox.claims.prune(outbox.now) == 1
    assert outbox.claims.waiting()[0] == 1
    outbox.later(days=60)
    assert outbox.claims.prune(outbox.now) == 1
    assert outbox.only().state is State.WAITING


def test_a_rotated_secret_signs_beside_the_old_until_the_overlap_ends(sqlite_outbox, receiver):
    outbox = sqlite_outbox
    channel = outbox.channel(receiver.url)
    new = outbox.channels.rotate(
        outbox.project, channel.id, secret=None, overlap=timedelta(hours=1)
    ).signing_secret
    assert new
    counts = []
    for minutes in (0, 30, 31):
        outbox.later(minutes=minutes)
        outbox.tell()
        outbox.deliverer.run_once()
        counts.append(len(receiver.received[-1].headers["webhook-signature"].split()))
    assert counts == [2, 2, 1]


def test_a_change_holds_for_what_waits_already(sqlite_outbox, receiver):
    outbox = sqlite_outbox
    channel = outbox.channel("http://127.0.0.1:1/")
    outbox.tell()
    outbox.deliverer.run_once()
    outbox.channels.change(outbox.project, channel.id, given={"url": f"{receiver.url}/new"})
    outbox.later(seconds=5)
    outbox.deliverer.run_once()
    assert [each.path for each in receiver.received] == ["/new"]


def test_a_deleted_project_leaves_no_secret_and_is_sent_nothing(outbox, receiver):
    outbox.channel(receiver.url)
    kept = outbox.channel(receiver.url, "theirs", outbox.other)
    outbox.tell()
    [claim] = outbox.claims.claim(8, outbox.now)
    outbox.channels.forget(outbox.project)
    assert outbox.channels.list(outbox.project) == outbox.listed() == []
    assert not outbox.claims.delivered(claim, outbox.now)
    assert [each.id for each in outbox.channels.list(outbox.other)] == [kept.id]


def test_sns_with_the_servers_credentials_needs_the_operators_word(sqlite_outbox):
    outbox = sqlite_outbox
    topic = {"topic_arn": "arn:aws:sns:eu-central-1:123456789012:alerts-ops"}
    with pytest.raises(InvalidInput, match="NILOMETER_NOTIFICATION_SNS_TOPICS"):
        outbox.channels.add(outbox.project, "sns", ChannelKind.SNS, topic)
    allowed = type(outbox.egress)(LOOPBACK, ("arn:aws:sns:*:123456789012:alerts-*",))
    assert allowed.lends_credentials(topic["topic_arn"])
    assert not allowed.lends_credentials("arn:aws:sns:eu-central-1:123456789012:other")


def test_many_threads_enqueue_one_notification_once(outbox, receiver):
    outbox.channel(receiver.url)
    notification = told()
    errors = []

    def tell() -> None:
        try:
            with outbox.database.session(EVERY_ROW) as session:
                enqueue(session, outbox.project, notification)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=tell) for _ in range(12)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert errors == []
    assert len(outbox.listed()) == 1


def test_names_are_looked_up_within_the_share_of_the_channels_project(
    outbox, receiver, monkeypatch
):
    began = []
    begin = reach._LOOKUPS.begin

    def noted(project_id, seconds):
        began.append(project_id)
        return begin(project_id, seconds)

    monkeypatch.setattr(reach._LOOKUPS, "begin", noted)
    url = receiver.url.replace("127.0.0.1", "localhost")
    for project in (outbox.project, outbox.other):
        outbox.tell(outbox.channel(url, project=project), project)
    assert outbox.deliverer.run_once() == 2
    assert sorted(began) == sorted([outbox.project, outbox.other])
    assert {each.state for each in outbox.listed()} == {State.DELIVERED}
