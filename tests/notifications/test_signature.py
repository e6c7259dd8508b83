import pytest

from nilometer.errors import InvalidInput
from nilometer.notifications import signature
from nilometer.notifications.signature import SignatureWrong
from tests.notifications.telling import SECRET

# The example of the Standard Webhooks libraries (their tests, `test_sign_function`).
ID, AT = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330
BODY = b'{"test": 2432232314}'
SIGNED = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_signature_is_the_standards():
    assert signature.headers(ID, AT, BODY, [SECRET]) == {
        "webhook-id": ID,
        "webhook-timestamp": str(AT),
        "webhook-signature": SIGNED,
    }


def test_either_of_two_secrets_verifies_and_no_other():
    old, new = signature.new_secret(), signature.new_secret()
    sent = signature.headers(ID, AT, BODY, [new, old])
    for secret in (old, new):
        signature.verify(secret, sent, BODY, now=AT)
    with pytest.raises(SignatureWrong):
        signature.verify(signature.new_secret(), sent, BODY, now=AT)


@pytest.mark.parametrize(
    ("change", "body", "now"),
    [
        ({"webhook-id": "msg_other"}, BODY, AT),
        ({"webhook-timestamp": str(AT + 1)}, BODY, AT),
        ({"webhook-timestamp": "soon"}, BODY, AT),
        ({"webhook-signature": "v1,"}, BODY, AT),
        ({}, BODY + b" ", AT),
        ({}, BODY, AT + 301),
        ({}, BODY, AT - 301),
    ],
)
def test_what_was_changed_or_is_old_is_refused(change, body, now):
    sent = signature.headers(ID, AT, BODY, [SECRET]) | change
    with pytest.raises(SignatureWrong):
        signature.verify(SECRET, sent, body, now=now)


@pytest.mark.parametrize(
    "secret", ["", "abc", "whsec_", "whsec_!!!!", "whsec_" + "QUJD", SECRET[6:]]
)
def test_a_weak_secret_is_refused_and_not_repeated(secret):
    with pytest.raises(InvalidInput) as refused:
        signature.checked_secret(secret)
    assert refused.value.detail.startswith("a webhook's secret is whsec_ and 24 to 64 bytes")
