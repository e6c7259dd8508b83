"""The commands' way to a running server: its HTTP API, with a personal key.

Answers are kept as the text that the server sent, so that `--json` shows numbers with every digit.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, cast
from urllib.parse import quote

import typer

from nilometer.cli.output import visible
from nilometer.domain import json_text
from nilometer.errors import ConfigurationError, NilometerError, NotFound, Unavailable

if TYPE_CHECKING:
    import httpx

Url = Annotated[
    str, typer.Option("--url", envvar="NILOMETER_URL", help="Where the server listens.")
]
Key = Annotated[
    str | None,
    typer.Option(
        "--key",
        envvar="NILOMETER_API_KEY",
        show_envvar=True,
        help="A personal key. Prefer the environment: other users see command lines.",
    ),
]
OWN_PROJECT = "@current"
"""Stands for the key's own project in a path."""


def _project(text: str) -> str:
    if text == OWN_PROJECT or (text.isascii() and text.isdigit() and not text.startswith("0")):
        return text
    raise typer.BadParameter(f"give the id of a project, or {OWN_PROJECT} for the key's own")


Project = Annotated[
    str,
    typer.Option("--project", metavar="ID", callback=_project, help="By default the key's own."),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document, for machines.")]

DEFAULT_URL = "http://127.0.0.1:8000"
PAGE = 500
_SECONDS = 60
# What JSON may hold unescaped in a string and a terminal obeys, or shows in another order.
_UNSAFE = re.compile("[\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]")


class Refused(NilometerError):
    """The server refused what was asked; its own sentence says why."""


@contextmanager
def connected(url: str, key: str | None) -> Generator[Client]:
    """A client for the length of the block. Raises ConfigurationError without a key or URL."""
    from ssl import PROTOCOL_TLS_CLIENT, SSLContext

    import httpx

    if not key:
        raise ConfigurationError(
            "give a personal key with --key or NILOMETER_API_KEY; "
            "`nilometer keys create --kind personal --scope read` makes one"
        )
    headers = {"Authorization": f"Bearer {key}", "Accept": "application/json"}
    # To load the authorities' certificates takes 40 ms, and plain HTTP asks for none.
    verify = SSLContext(PROTOCOL_TLS_CLIENT) if url.startswith("http://") else True
    try:
        http = httpx.Client(base_url=url, headers=headers, timeout=_SECONDS, verify=verify)
    except (httpx.InvalidURL, UnicodeEncodeError):
        raise ConfigurationError("the URL or the key cannot be used as it is") from None
    with http:
        yield Client(http)


class Client:
    """Asks the server, and turns its refusals into errors with the sentence that it gave."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    def get(self, path: str, parameters: Mapping[str, Any] | None = None) -> str:
        """The text of a JSON answer. Raises NotFound, Refused and Unavailable."""
        return self._ask("GET", path, parameters)

    def post(
        self,
        path: str,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> str:
        """As `get`, of a request that changes something."""
        return self._ask("POST", path, None, body, headers)

    def put(self, path: str, body: Mapping[str, Any]) -> str:
        """As `get`, of a request that sets what the path names."""
        return self._ask("PUT", path, None, body)

    def patch(self, path: str, body: Mapping[str, Any]) -> str:
        """As `get`, of a request that changes what the path names."""
        return self._ask("PATCH", path, None, body)

    def delete(self, path: str) -> str:
        """As `get`, of a request that deletes what the path names."""
        return self._ask("DELETE", path, None)

    def download(
        self,
        path: str,
        parameters: Mapping[str, Any],
        body: Mapping[str, Any],
        file: BinaryIO,
    ) -> None:
        """Write the answer of a POST to a file as it arrives. Raises as `get` does."""
        import httpx

        try:
            with self._http.stream("POST", path, params=parameters, json=body) as answer:
                if answer.is_error:
                    answer.read()
                    raise _refusal(answer)
                file.writelines(answer.iter_bytes())
        except httpx.HTTPError as error:
            raise Unavailable(
                f"{visible(str(self._http.base_url))} did not send the whole answer "
                f"({type(error).__name__})"
            ) from None

    def pages(self, path: str, parameters: Mapping[str, Any], limit: int) -> Listing:
        """The first `limit` results of a list, page after page."""
        given = {name: value for name, value in parameters.items() if value is not None}
        results: list[str] = []
        text = self.get(path, {**given, "limit": min(limit, PAGE)})
        while True:
            members = json_text.members(text)
            results += _elements(members["results"])
            after = cast("str | None", json.loads(members["next"]))
            if after is None or len(results) >= limit:
                return Listing(results[:limit])
            text = self.get(after)

    def _ask(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, Any] | None,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> str:
        import httpx

        try:
            answer = self._http.request(method, path, params=parameters, json=body, headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unavailable(
                f"{visible(str(self._http.base_url))} does not answer "
                f"({type(error).__name__}); is `nilometer serve` running there?"
            ) from None
        if answer.is_error:
            raise _refusal(answer)
        return answer.text


class Listing:
    """Results of a list, each as the JSON text that the server sent."""

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts

    def values(self) -> list[dict[str, Any]]:
        """The results, parsed."""
        return [json.loads(text) for text in self.texts]

    def text(self) -> str:
        """One JSON document: `{"results": […]}`."""
        return '{"results":[' + ",".join(self.texts) + "]}"


def segment(text: str) -> str:
    """A text as one segment of a path; also one of dots only, which would mean a directory."""
    return quote(text, safe="").replace(".", "%2E")


def show_document(text: str) -> None:
    """Print a JSON document as it came, on one line, harmless to a terminal."""
    typer.echo(_UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text))


def _elements(array: str) -> list[str]:
    """The exact texts of an array's elements."""
    members: list[str] = []
    decoder = json.JSONDecoder()
    index = _skip(array, 1)
    while array[index] != "]":
        end = decoder.raw_decode(array, index)[1]
        members.append(array[index:end])
        index = _skip(array, end)
        if array[index] == ",":
            index = _skip(array, index + 1)
    return members


def _skip(text: str, index: int) -> int:
    while text[index] in " \t\n\r":
        index += 1
    return index


def _refusal(answer: httpx.Response) -> NilometerError:
    try:
        detail = str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        detail = "the server answered without saying why"
    sentence = f"{visible(detail[:500])} (HTTP {answer.status_code})"
    if answer.status_code in (404, 410):
        return NotFound(sentence)
    return Unavailable(sentence) if answer.status_code >= 500 else Refused(sentence)
