import gzip
import re

import pytest

from nilometer.api.routes.blobs import inert_type
from nilometer.blobs.types import StoredBlob

# Whatever a browser might show, run or sniff must not come back under its own name.
ACTIVE = [
    "text/html",
    "TEXT/HTML",
    "text/html; charset=utf-8",
    " text/html",
    "application/xhtml+xml",
    "image/svg+xml",
    "text/xml",
    "application/xml",
    "application/rdf+xml",
    "text/javascript",
    "application/javascript",
    "text/css",
    "multipart/x-mixed-replace",
    "message/rfc822",
    "text/plain\r\nSet-Cookie: a=b",
    "text/plain, text/html",
    "text/html,text/plain",
    "application/x-shockwave-flash",
    "video/mp4,text/html",
    "*/*",
    "",
    "garbage",
]


@pytest.fixture
def project(world):
    return world.project()


def stored_url(project, kind, body, **more):
    uuid = project.store(blobs={"$ai_input": (kind, body)}, **more)
    return project.get(f"events/{uuid}/").json()["properties"]["$ai_input"]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", b'{"a": 1.10}' * 500),
        ("text/plain", "é\n".encode()),
        ("application/octet-stream", bytes(range(256)) * 300),
        ("text/plain; charset=latin-1", b"\xe9"),
    ],
)
def test_a_blob_comes_back_byte_for_byte_with_its_type_as_an_attachment(project, kind, body):
    answer = project.get("blobs/", url=stored_url(project, kind, body))
    assert answer.status_code == 200
    assert answer.content == body
    assert answer.headers["content-type"] == kind
    assert answer.headers["content-length"] == str(len(body))
    assert "content-encoding" not in answer.headers
    assert re.fullmatch(
        r'attachment; filename="ai_input\.(json|txt|bin)"', answer.headers["content-disposition"]
    )
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"] == "sandbox; default-src 'none'"
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("declared", ACTIVE)
def test_a_type_that_a_browser_might_run_is_octets(declared):
    assert inert_type(declared) == "application/octet-stream"


@pytest.mark.parametrize(
    ("declared", "shown"),
    [
        ("application/json", "application/json"),
        ("application/json; charset=utf-8", "application/json"),
        ("text/plain;charset=UTF-8", "text/plain; charset=utf-8"),
        ("text/plain; charset=x\r\nSet-Cookie: a", "text/plain; charset=x"),
        ("image/png", "image/png"),
        ("audio/mpeg", "audio/mpeg"),
    ],
)
def test_a_type_that_nothing_runs_is_kept(declared, shown):
    assert inert_type(declared) == shown


@pytest.mark.parametrize("name", ['a".html', "..", "/etc/passwd", "\u202egnp", "x" * 300, "$"])
def test_a_name_cannot_leave_the_header_or_a_directory(name):
    from nilometer.api.routes.blobs import attachment_headers

    headers = attachment_headers(StoredBlob(name, "text/html", None, 1, iter(())))
    assert re.fullmatch(
        r'attachment; filename="[A-Za-z0-9_-]{1,64}\.bin"', headers["Content-Disposition"]
    )


HOSTILE = [
    "",
    "x",
    "file:///etc/passwd",
    "file://nilometer/../../etc/passwd?range=0-1",
    "file://nilometer/llma/{id}/../{id}/2025-07-01/x.multipart?range=0-1",
    "file://nilometer/llma/%2e%2e/secret?range=0-1",
    "s3://nilometer/llma/{id}/2025-07-01/x.multipart?range=0-1",
    "http://169.254.169.254/latest/meta-data/",
    "file://other/llma/{id}/2025-07-01/x.multipart?range=0-1",
    "\x00",
    "file://nilometer/" + "a" * 900,
]


@pytest.mark.parametrize("url", HOSTILE)
def test_a_url_that_is_not_one_of_ours_is_refused(project, url):
    answer = project.get("blobs/", url=url.replace("{id}", str(project.id)))
    assert (answer.status_code, answer.json()["attr"]) == (400, "url")


@pytest.mark.parametrize(
    "change", [("range=", "range=9"), ("-", "-9999999"), ("?range", "?rang"), ("llma/", "llma//")]
)
def test_a_url_that_was_changed_reads_nothing_else(project, change):
    url = stored_url(project, "text/plain", b"secret")
    old, new = change
    head, _, tail = url.rpartition(old)
    answer = project.get("blobs/", url=f"{head}{new}{tail}")
    assert answer.status_code in (400, 404)
    assert "secret" not in answer.text


def test_the_url_is_needed(project):
    answer = project.get("blobs/")
    assert (answer.status_code, answer.json()["attr"]) == (400, "url")


def test_a_blob_of_another_project_is_as_if_it_did_not_exist(world, project):
    theirs = stored_url(world.project(), "text/plain", b"secret")
    missing = re.sub(r"_[0-9a-f]{16}\.", "_0123456789abcdef.", theirs)
    answer = project.get("blobs/", url=theirs)
    assert answer.status_code == 404
    assert answer.content == project.get("blobs/", url=missing).content
    mine = stored_url(project, "text/plain", b"mine")
    gone = re.sub(r"_[0-9a-f]{16}\.", "_0123456789abcdef.", mine)
    assert project.get("blobs/", url=gone).content == answer.content


def test_an_expired_blob_is_gone(project):
    url = stored_url(project, "text/plain", b"old", days_ago=40)
    answer = project.get("blobs/", url=url)
    assert (answer.status_code, answer.json()["code"]) == (410, "blob_expired")


def test_a_stored_compression_is_undone(project):
    body = b"a" * 5000
    url = stored_url(project, "text/plain", body)
    assert project.get("blobs/", url=url).content == body
    packed = stored_url(project, "application/octet-stream", gzip.compress(body))
    assert gzip.decompress(project.get("blobs/", url=packed).content) == body
