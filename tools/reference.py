"""`docs/reference.html`: the OpenAPI document for reading. One file, no scripts, no requests."""

import html
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

from jobengine.http.published import published_document

__all__ = ["page"]

_STYLE: Final = """\
:root { color-scheme: light dark; --line: #8884; --soft: #8882; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 70rem; padding: 0 1.5rem; }
code, pre { font: 13px/1.5 ui-monospace, monospace; }
pre { background: var(--soft); overflow-x: auto; padding: .7rem; }
table { border-collapse: collapse; margin: .4rem 0 1rem; width: 100%; }
th, td { border-top: 1px solid var(--line); padding: .3rem .6rem .3rem 0; text-align: left;
  vertical-align: top; overflow-wrap: anywhere; }
th:first-child, td:first-child { width: 14rem; }
h2 { border-bottom: 2px solid var(--line); margin-top: 3rem; }
h3 { margin: 2.2rem 0 .2rem; }
h4 { margin: .8rem 0 0; }
nav ul { columns: 3 16rem; list-style: none; padding: 0; }
.method { display: inline-block; min-width: 4rem; }
"""


def page() -> str:
    document = published_document()
    title = f"jobengine {document['info']['version']}: REST API"
    parts = [
        "<!doctype html>",
        '<html lang="en">',
        '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{html.escape(title)}</title>",
        f"<style>\n{_STYLE}</style>",
        f"<h1>{html.escape(title)}</h1>",
        *_prose(document["info"]["description"]),
        *_contents(document),
        *_operations(document),
        *_schemas(document),
        "</html>",
    ]
    return "\n".join(parts) + "\n"


def _prose(text: str) -> Iterator[str]:
    for paragraph in text.strip().split("\n\n"):
        yield f"<p>{_inline(' '.join(paragraph.split()))}</p>"


def _inline(text: str) -> str:
    """Text with the `code` and **strong** of Markdown."""
    said = re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text, quote=False))
    return re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", said)


def _by_tag(
    document: dict[str, Any],
) -> Iterator[tuple[dict[str, str], list[tuple[str, str, Any]]]]:
    for tag in document["tags"]:
        yield (
            tag,
            [
                (method.upper(), path, operation)
                for path, item in document["paths"].items()
                for method, operation in item.items()
                if tag["name"] in operation["tags"]
            ],
        )


def _contents(document: dict[str, Any]) -> Iterator[str]:
    yield "<nav>"
    for tag, operations in _by_tag(document):
        yield f"<h4>{html.escape(tag['name'])}</h4><ul>"
        for _, _, operation in operations:
            name = operation["operationId"]
            yield f'<li><a href="#{name}">{name}</a></li>'
        yield "</ul>"
    yield '<p><a href="#schemas">Schemas</a></p></nav>'


def _operations(document: dict[str, Any]) -> Iterator[str]:
    for tag, operations in _by_tag(document):
        yield f"<h2>{html.escape(tag['name'])}</h2><p>{_inline(tag['description'])}</p>"
        for method, path, operation in operations:
            yield from _operation(document, method, path, operation)


def _operation(
    document: dict[str, Any], method: str, path: str, operation: dict[str, Any]
) -> Iterator[str]:
    gone = " (deprecated)" if operation.get("deprecated") else ""
    yield f'<h3 id="{operation["operationId"]}">{html.escape(operation["summary"])}{gone}</h3>'
    yield f'<p><code><span class="method">{method}</span>{html.escape(path)}</code></p>'
    if "description" in operation:
        yield f"<p>{_inline(operation['description'])}</p>"
    if scopes := operation.get("x-scopes"):
        yield f"<p>Scope: {' or '.join(f'<code>{scope}</code>' for scope in scopes)}</p>"
    given = [_resolved(document, one) for one in operation.get("parameters", ())]
    if given:
        yield from _table(("parameter", "in", "type", "meaning"), map(_parameter, given))
    if body := operation.get("requestBody"):
        yield f"<h4>Body{'' if body['required'] else ' (may be absent)'}</h4>"
        yield from _content(body["content"])
    yield "<h4>Answers</h4>"
    rows, examples = [], []
    for status, answer in operation["responses"].items():
        answer = _resolved(document, answer)
        headers = ", ".join(f"<code>{name}</code>" for name in answer["headers"])
        content = "<br>".join(
            f"{_type(one['schema'])} as <code>{kind}</code>"
            for kind, one in answer["content"].items()
        )
        rows.append((f"<code>{status}</code>", _inline(answer["description"]), content, headers))
        if status < "300":
            examples += [*_examples(answer["content"], status)]
    yield from _table(("status", "meaning", "body", "headers"), rows)
    yield from examples


def _resolved(document: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    found: Any = document
    if "$ref" not in part:
        return part
    for name in part["$ref"].removeprefix("#/").split("/"):
        found = found[name]
    resolved: dict[str, Any] = found
    return resolved


def _parameter(given: dict[str, Any]) -> tuple[str, str, str, str]:
    must = "" if not given["required"] else " (required)"
    return (
        f"<code>{html.escape(given['name'])}</code>{must}",
        given["in"],
        _type(given["schema"]),
        _inline(given.get("description", "")),
    )


def _content(content: dict[str, Any]) -> Iterator[str]:
    for media_type, said in content.items():
        yield f"<p>{_type(said['schema'])} as <code>{media_type}</code></p>"
    yield from _examples(content, "")


def _examples(content: dict[str, Any], label: str) -> Iterator[str]:
    for media_type, said in content.items():
        shown = {name: one["value"] for name, one in said.get("examples", {}).items()}
        if "example" in said:
            shown["example"] = said["example"]
        for name, value in shown.items():
            text = value if isinstance(value, str) else json.dumps(value, indent=2)
            yield f"<details><summary>Example {label} {name} ({media_type})</summary>"
            yield f"<pre>{html.escape(text, quote=False)}</pre></details>"


def _schemas(document: dict[str, Any]) -> Iterator[str]:
    yield '<h2 id="schemas">Schemas</h2>'
    for name, schema in document["components"]["schemas"].items():
        yield f'<h3 id="schema-{name}">{name}</h3>'
        yield f"<p>{_inline(schema.get('description', ''))}</p>"
        if codes := schema.get("x-extensible-enum"):
            yield f"<p>{', '.join(f'<code>{code}</code>' for code in codes)}</p>"
        must = schema.get("required", ())
        rows = [
            (
                f"<code>{html.escape(field)}</code>{' (required)' if field in must else ''}",
                _type(of),
                _default(of),
            )
            for field, of in schema.get("properties", {}).items()
        ]
        if rows:
            yield from _table(("field", "type", "default"), rows)


def _type(schema: dict[str, Any]) -> str:
    """A schema in one line; a named one as a link."""
    match schema:
        case {"$ref": ref}:
            name = ref.rpartition("/")[2]
            return f'<a href="#schema-{name}">{name}</a>'
        case {"anyOf": options}:
            return " or ".join(_type(option) for option in options)
        case {"enum": values}:
            return " | ".join(f"<code>{html.escape(str(value))}</code>" for value in values)
        case {"type": "array", "items": items}:
            return f"list of {_type(items)}{_limits(schema)}"
        case {"type": "object", "additionalProperties": dict() as values}:
            return f"object of {_type(values)}{_limits(schema)}"
        case {"type": kind}:
            form = schema.get("format")
            return f"{kind}{f' ({form})' if form else ''}{_limits(schema)}"
    return "any JSON"


def _limits(schema: dict[str, Any]) -> str:
    names = ("minimum", "maximum", "minLength", "maxLength", "maxItems", "maxProperties", "pattern")
    said = [
        f"{name} <code>{html.escape(str(schema[name]))}</code>" for name in names if name in schema
    ]
    return f", {', '.join(said)}" if said else ""


def _default(schema: dict[str, Any]) -> str:
    return (
        f"<code>{html.escape(json.dumps(schema['default']))}</code>" if "default" in schema else ""
    )


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    yield f"<table><tr>{''.join(f'<th>{name}</th>' for name in head)}</tr>"
    for row in rows:
        yield f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>"
    yield "</table>"
