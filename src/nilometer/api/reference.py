"""The reference page at `/docs`: the OpenAPI document as one static page.

It brings no script and asks no other host, so that it opens without internet, and no third party's
code runs on the origin where people use their keys.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

_Json = Mapping[str, Any]

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}

_STYLE = """
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; font: 16px/1.5 system-ui, sans-serif }
h2 { margin-top: 2.5rem; font-size: 1.1rem; overflow-wrap: anywhere }
code, h2 { font-family: ui-monospace, monospace }
table { border-collapse: collapse }
td { padding: .15rem 1rem .15rem 0; vertical-align: top }
:root { color-scheme: light dark }
"""
# FastAPI adds this answer to every route; errors.py answers 400 in its place.
_NEVER_SENT = "422"


def page(document: _Json) -> str:
    """The page of an OpenAPI document, as HTML."""
    info = document["info"]
    title = escape(f"{info['title']} {info['version']}")
    operations = list(_operations(document))
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{title}: API</title><style>{_STYLE}</style>"
        f"<h1>{title}</h1><p>{_prose(info.get('summary', ''))} "
        'For tools: <a href="openapi.json">openapi.json</a>.</p>'
        f"<ul>{''.join(_entry(*operation) for operation in operations)}</ul>"
        f"{''.join(_section(*operation) for operation in operations)}</html>\n"
    )


def _operations(document: _Json) -> Iterator[tuple[str, _Json]]:
    """Each operation with its name, such as `GET /api/log/`."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def _entry(name: str, operation: _Json) -> str:
    anchor = escape(operation["operationId"])
    return f'<li><a href="#{anchor}"><code>{escape(name)}</code></a></li>'


def _section(name: str, operation: _Json) -> str:
    key = "Needs a key." if operation.get("security") else "Public."
    return (
        f'<h2 id="{escape(operation["operationId"])}">{escape(name)}</h2>'
        f"<p>{_prose(operation.get('description', ''))} {key}</p>"
        f"{_table(_parameters(operation))}{_table(_answers(operation))}"
    )


def _parameters(operation: _Json) -> Iterator[tuple[str, str, str]]:
    for each in operation.get("parameters", ()):
        needed = ", needed" if each.get("required") else ""
        yield each["name"], f"{each['in']}{needed}", each.get("description", "")
    body = operation.get("requestBody", {}).get("content", {})
    for media_type, content in body.items():
        for form in content["schema"].get("anyOf", [content["schema"]]):
            for name, field in form.get("properties", {}).items():
                yield name, f"body, {media_type}", field.get("description", "")


def _answers(operation: _Json) -> Iterator[tuple[str, str, str]]:
    for status, answer in sorted(operation["responses"].items()):
        if status != _NEVER_SENT:
            yield status, "answer", answer["description"]


def _table(rows: Iterator[tuple[str, str, str]]) -> str:
    cells = "".join(
        f"<tr><td><code>{escape(name)}</code><td>{escape(kind)}<td>{_prose(meaning)}"
        for name, kind, meaning in rows
    )
    return f"<table>{cells}</table>" if cells else ""


def _prose(text: str) -> str:
    """Text in which only `code` is marked up."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(text))
