"""Certificates and keys that the settings name: readable, of each other, in force."""

from __future__ import annotations

import ssl
import time
from pathlib import Path
from typing import Any, cast

from nilometer.doctor.finding import Outcome, Verdict, failed, ok, together, warning

_SOON_DAYS = 14
_DAY = 86_400


def authorities(path: str, setting: str) -> Verdict:
    """A file of certificates that a server's is checked by."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cafile=path)
        # Of a file that names a server's own certificate, which is no authority, only the first.
        found = context.get_ca_certs() or [_first(path)]
    except OSError as error:  # ssl.SSLError too
        return _unreadable(path, setting, error)
    verdicts = [_in_force(each, path, setting) for each in found]
    # One that is in force is enough to trust a server by.
    return min(verdicts, key=lambda each: list(Outcome).index(each.outcome))


def identity(certificate: str, key: str, setting: str, *, password: str | None = None) -> Verdict:
    """Our own certificate and its key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # Without a password OpenSSL would ask on the terminal.
        context.load_cert_chain(certificate, key, lambda: password or "")
        found = _first(certificate)
    except (OSError, ValueError) as error:
        return _unreadable(f"{certificate} and {key}", setting, error)
    return together(
        [_in_force(found, certificate, setting), _guarded(key, setting)],
        f"The certificate {certificate} is in force, and {key} is its key.",
    )


def _first(path: str) -> dict[str, Any]:
    # What `SSLSocket.getpeercert` reads a certificate with; the library offers it for files under
    # no better name.
    return cast("Any", ssl)._ssl._test_decode_cert(path)  # noqa: SLF001


def _in_force(certificate: dict[str, Any], path: str, setting: str) -> Verdict:
    now = time.time()
    begins = ssl.cert_time_to_seconds(certificate["notBefore"])
    ends = ssl.cert_time_to_seconds(certificate["notAfter"])
    remedy = f"Put a certificate that is in force where {setting} says."
    if now > ends:
        return failed(f"The certificate in {path} expired on {certificate['notAfter']}.", remedy)
    if now < begins:
        found = f"The certificate in {path} is not in force before {certificate['notBefore']}."
        return failed(found, remedy)
    if ends - now < _SOON_DAYS * _DAY:
        days = int((ends - now) / _DAY)
        return warning(f"The certificate in {path} expires in {days} days.", remedy)
    return ok(f"The certificate in {path} is in force.")


def _guarded(key: str, setting: str) -> Verdict:
    if Path(key).stat().st_mode & 0o007:
        return warning(
            f"Every user of this machine can read the private key {key}.",
            f"chmod o= the key's file that {setting} names.",
        )
    return ok("")


def _unreadable(path: str, setting: str, error: OSError | ValueError) -> Verdict:
    match error:
        case ssl.SSLError():
            why = "they are no PEM of certificates, or the key is another's or has a password"
        case OSError():
            why = (error.strerror or "it cannot be read").lower()
        case _:
            why = "they cannot be read"
    return failed(
        f"{path} cannot be used: {why}.", f"Mend the files that {setting} and its neighbours name."
    )
