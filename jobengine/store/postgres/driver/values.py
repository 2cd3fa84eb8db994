"""Python values to PostgreSQL parameters, and result rows to Python values.

The server's own description of a prepared statement decides how a parameter travels, so a `bytes`
is raw JSON for a json column and octets for a bytea column, and neither is ever escaped:

| server type             | accepts                        | travels as                     |
|-------------------------|--------------------------------|--------------------------------|
| bytea                   | bytes, bytearray, memoryview   | binary, as it is               |
| json, text, varchar, …  | str, bytes (UTF-8)             | binary, as it is               |
| jsonb                   | str, bytes (UTF-8)             | binary, version byte in front  |
| bytea[]                 | list or tuple of bytes or None | text, hexadecimal              |
| bigint[]                | array('q'); list or tuple of int or None | binary               |
| uuid[]                  | list or tuple of str, UUID or None | binary                     |
| any other array         | list or tuple, one dimension   | text                           |
| any other type          | bool, int, float, str, UUID, aware datetime | text              |

Rows come back in the binary format through psycopg's loaders, which are C: int, float, bool, str,
bytes, aware datetime in UTC, lists of them; json and jsonb as the raw bytes, uuid as str. A type
psycopg has no binary loader for (an enumeration, say) arrives as bytes: cast it in the statement.
"""

from __future__ import annotations

import datetime as dt
import struct
import sys
import uuid
from array import array
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import psycopg
from psycopg import abc
from psycopg.adapt import AdaptersMap, Loader, Transformer
from psycopg.postgres import types
from psycopg.pq import Format

type_oid = types.get_oid
Encoder = Callable[[Any], bytes]


def _octets(value: object) -> bytes:
    if type(value) is bytes:
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    raise TypeError(f"bytes expected, not {type(value).__name__}")


def _utf8(value: object) -> bytes:
    if type(value) is bytes:
        return value
    if isinstance(value, str):
        return value.encode()
    return _octets(value)


def _jsonb(value: object) -> bytes:
    return b"\x01" + _utf8(value)


def _bool(value: bool) -> bytes:
    return b"t" if value else b"f"


def _ascii(value: object) -> bytes:
    return str(value).encode("ascii")


def _int(value: int) -> bytes:
    return b"%d" % value


def _str(value: str) -> bytes:
    if "\0" in value:
        raise ValueError("text with a NUL cannot be sent for this type")
    return value.encode()


def _datetime(value: dt.datetime) -> bytes:
    if value.tzinfo is None:
        raise ValueError("an aware datetime expected, not a naive one")
    return value.isoformat().encode("ascii")


_SCALARS: Final[Mapping[type, Encoder]] = MappingProxyType(
    {
        bool: _bool,
        int: _int,
        float: _ascii,
        str: _str,
        uuid.UUID: _ascii,
        dt.datetime: _datetime,
    }
)


def _scalar(value: object) -> bytes:
    for cls in type(value).__mro__:
        if encoder := _SCALARS.get(cls):
            return encoder(value)
    raise TypeError(f"no parameter of this type can be a {type(value).__name__}")


def _element(value: object) -> bytes:
    if value is None:
        return b"NULL"
    text = _scalar(value)
    return b'"' + text.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


def _plain_numbers(values: Sequence[object]) -> bytes:
    """Python prints a list of these as PostgreSQL reads it, but for None."""
    printed = str(list(values))[1:-1]
    return printed.replace("None", "NULL").encode("ascii")


def _plain_texts(values: Sequence[object]) -> bytes | None:
    """None where an element needs escaping: a quotation mark of its own, a backslash, a NUL."""
    quoted = [f'"{value}"' if value is not None else "NULL" for value in values]
    joined = ",".join(quoted)
    marks_due = 2 * (len(values) - values.count(None))
    if "\\" in joined or "\0" in joined or joined.count('"') != marks_due:
        return None
    return joined.encode()


def _bytea_element(value: object) -> bytes:
    return b"NULL" if value is None else b'"\\\\x' + _octets(value).hex().encode("ascii") + b'"'


def _array(value: object, element: Encoder = _element) -> bytes:
    if isinstance(value, str):
        return _str(value)
    if isinstance(value, list | tuple):
        return b"{" + (_plain(value) or b",".join(map(element, value))) + b"}"
    raise TypeError(f"list or tuple expected, not {type(value).__name__}")


def _plain(values: Sequence[object]) -> bytes | None:
    """The elements, printed at once, where they are all of one simple kind; else None."""
    kinds = set(map(type, values)) - {type(None)}
    if kinds == {int} or kinds == {bool}:
        return _plain_numbers(values)
    return _plain_texts(values) if kinds == {str} or kinds == {uuid.UUID} else None


def _bytea_array(value: object) -> bytes:
    return _array(value, _bytea_element)


def _bigint_array(value: object) -> bytes:
    """Numbers by the thousand, written without a step of the interpreter for each."""
    if isinstance(value, array) and value.typecode == "q":
        return _fixed_array("int8", _network_order(value), 8)
    if isinstance(value, list | tuple):
        try:
            if None not in value:
                return _fixed_array("int8", _network_order(array("q", value)), 8)
            items = [None if each is None else struct.pack(">q", each) for each in value]
        except (OverflowError, struct.error):
            raise ValueError("a number beyond 64 bits") from None
        return _nullable_array("int8", items)
    raise TypeError(f"list or tuple of int expected, not {type(value).__name__}")


def _uuid_array(value: object) -> bytes:
    if not isinstance(value, list | tuple):
        raise TypeError(f"list or tuple expected, not {type(value).__name__}")
    if set(map(type, value)) == {str}:
        digits = "".join(value).replace("-", "")
        if len(digits) == 32 * len(value):
            return _fixed_array("uuid", bytes.fromhex(digits), 16)
    items = [None if each is None else _uuid(each).bytes for each in value]
    return _nullable_array("uuid", items)


def _uuid(value: object) -> uuid.UUID:
    if isinstance(value, uuid.UUID):
        return value
    if isinstance(value, str):
        return uuid.UUID(value)
    raise TypeError(f"no uuid can be a {type(value).__name__}")


def _network_order(numbers: array[int]) -> bytes:
    if sys.byteorder == "little":
        numbers = numbers[:]
        numbers.byteswap()
    return numbers.tobytes()


def _fixed_array(element: str, octets: bytes, size: int) -> bytes:
    """An array of elements that are `size` octets each. Every element travels behind its length, so
    they are put into their places word by word, all first words of 32 bits at once."""
    words = array("i", octets)
    width = size // 4
    count = len(words) // width
    placed = array("i", bytes(4 * count * (width + 1)))
    placed[:: width + 1] = array("i", struct.pack(">i", size)) * count
    for place in range(width):
        placed[place + 1 :: width + 1] = words[place::width]
    return _array_head(element, count, has_nulls=False) + placed.tobytes()


def _nullable_array(element: str, items: Sequence[bytes | None]) -> bytes:
    parts = [b"\xff\xff\xff\xff" if e is None else struct.pack(">i", len(e)) + e for e in items]
    return _array_head(element, len(items), has_nulls=None in items) + b"".join(parts)


def _array_head(element: str, count: int, *, has_nulls: bool) -> bytes:
    """One dimension from 1 on, or none at all for an empty array."""
    if not count:
        return struct.pack(">iii", 0, 0, type_oid(element))
    return struct.pack(">iiiii", 1, has_nulls, type_oid(element), count, 1)


_BINARY: Final[Mapping[int, Encoder]] = MappingProxyType(
    {
        type_oid("bytea"): _octets,
        type_oid("jsonb"): _jsonb,
        **{type_oid(name): _utf8 for name in ("json", "text", "varchar", "bpchar")},
        types["int8"].array_oid: _bigint_array,
        types["uuid"].array_oid: _uuid_array,
    }
)
_ARRAY_OIDS: Final = frozenset(info.array_oid for info in types if info.array_oid)


def encoding_of(oid: int) -> tuple[Encoder, Format]:
    """How a parameter of this server type is encoded, and in which format it travels."""
    if binary := _BINARY.get(oid):
        return binary, Format.BINARY
    if oid == types["bytea"].array_oid:
        return _bytea_array, Format.TEXT
    return (_array if oid in _ARRAY_OIDS else _scalar), Format.TEXT


def encode(
    values: Sequence[Any], encoders: Sequence[Encoder], names: Sequence[str]
) -> list[bytes | None]:
    """The parameters ready to send. An unfit value raises naming the parameter, not the value."""
    try:
        return [
            None if value is None else encoder(value)
            for value, encoder in zip(values, encoders, strict=True)
        ]
    except (TypeError, ValueError):
        for count, (value, encoder) in enumerate(zip(values, encoders, strict=False)):
            label = names[count] if count < len(names) else f"${count + 1}"
            try:
                if value is not None:
                    encoder(value)
            except UnicodeError:
                raise ValueError(f"parameter {label}: not encodable as UTF-8") from None
            except (TypeError, ValueError) as error:
                raise type(error)(f"parameter {label}: {error}") from None
        raise TypeError(f"{len(encoders)} parameters expected, not {len(values)}") from None


class _JsonbLoader(Loader):
    format = Format.BINARY

    def load(self, data: abc.Buffer) -> bytes:
        return bytes(data[1:])


class _UuidLoader(Loader):
    format = Format.BINARY

    def load(self, data: abc.Buffer) -> str:
        digits = bytes(data).hex()
        head = f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}"
        return f"{head}-{digits[16:20]}-{digits[20:]}"


def row_loader() -> abc.Transformer:
    """A loader of binary result rows; one a connection, for it remembers the types it has met."""
    adapters = AdaptersMap(psycopg.adapters)
    octets = adapters.get_loader(type_oid("bytea"), Format.BINARY)
    assert octets is not None
    adapters.register_loader("json", octets)
    adapters.register_loader("jsonb", _JsonbLoader)
    adapters.register_loader("uuid", _UuidLoader)
    return Transformer(adapters)
