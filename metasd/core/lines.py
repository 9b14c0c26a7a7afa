"""From the bytes of a prompt file to its rows: JSON lines or CSV, as editors, spreadsheets and programs write them.

Knows encodings, line ends, JSON and CSV; what a row's keys mean is ``metasd.core.prompts``'s business. Accepted besides
UTF-8 lines: a byte order mark, UTF-16 and UTF-32, CRLF and CR, blank lines, objects that span lines, one JSON array.
"""

from __future__ import annotations

import codecs
import csv
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from metasd.core import jsontext, shown
from metasd.core.errors import UsageError

_MARKS = (  # UTF-32's begins with UTF-16's, so it comes first
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
STDIN_NAME = "standard input"
"""What messages call it."""
_PACKED = (
    (b"PK\x03\x04", "a spreadsheet's own file or a zip archive; save it as CSV, or unpack it"),
    (b"\xd0\xcf\x11\xe0", "an old office program's file; save it as CSV or .txt"),
    (b"\x1f\x8b", "packed with gzip; unpack it"),
    (b"(\xb5/\xfd", "packed with zstd; unpack it"),
    (b"BZh", "packed with bzip2; unpack it"),
    (b"\xfd7zXZ", "packed with xz; unpack it"),
    (b"PAR1", "a Parquet table; write its rows as JSON lines or CSV"),
    (b"%PDF-", "a PDF; save its text as .txt"),
)
_BLANK = " \t\r\n\x1a"  # the last is how DOS ends a file
_SEPARATORS = re.compile(r"[\s,]*")


@dataclass(frozen=True, slots=True)
class Row:
    """One JSON value of a file.

    number: its line, counted from 1, or its place in the array that the file is. where: the same in words.
    """

    number: int
    where: str
    value: Any


def read(path: Path | str) -> str:
    """The text of a file. Raises UsageError, naming it, when it cannot be read or is no text."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"prompt file {path} cannot be read: {error.strerror}") from None
    return decode(data, str(path))


def standard_input() -> str:
    """The text of standard input, whole. Raises UsageError for what is no text."""
    return decode(sys.stdin.buffer.read(), STDIN_NAME)


def next_of_standard_input(number: int) -> str | None:
    """Line ``number``, from 1, of standard input; None at its end. Raises UsageError for what is no text."""
    data = sys.stdin.buffer.readline()
    return decode(data, STDIN_NAME, first=number) if data else None


def decode(data: bytes, name: str, first: int = 1) -> str:
    """Text of ``data``, line ends as one newline. Raises UsageError, naming ``name`` and the line, for other bytes.

    first: the number of its first line.
    """
    packed = next((said for mark, said in _PACKED if data.startswith(mark)), None)
    if packed is not None:
        raise UsageError(f"{name} is {packed}")
    encoding, body = next(((e, data[len(m) :]) for m, e in _MARKS if data.startswith(m)), (_guess(data), data))
    try:
        text = body.decode(encoding)
    except UnicodeDecodeError as error:
        line = body[: error.start].count(b"\n") + first
        byte = f"byte 0x{body[error.start]:02x}"
        raise UsageError(f"{name} line {line}: not {encoding.upper()} text ({byte}); save the file as UTF-8") from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + first
        raise UsageError(f"{name} line {line}: holds NUL characters, so the file is damaged or no text; save it anew")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _guess(data: bytes) -> str:
    """The encoding of bytes without a mark: UTF-16 where every other byte of the first few is 0, as of ASCII."""
    head = data[:64]
    if len(head) >= 4 and len(data) % 2 == 0:
        if not any(head[1::2]) and all(head[::2]):
            return "utf-16-le"
        if not any(head[::2]) and all(head[1::2]):
            return "utf-16-be"
    return "utf-8"


def rows(text: str, name: str) -> list[Row]:
    """The JSON values of ``text``, which is ``name``'s. Raises UsageError, naming the line, for what is no JSON."""
    body = text.strip(_BLANK)
    found = list(_array(body, name)) if body.startswith("[") else _spanning(text, name) or list(_lines(text, name))
    for row in found:
        check_text(row.value, row.where)
    return found


def table(text: str, name: str) -> list[Row]:
    """The rows of a spreadsheet's CSV or TSV file as objects: the first line names the keys, empty cells are left out.

    Separated by whichever of comma, semicolon and tab the first line has most of. A row's number is its first line's.
    Raises UsageError, naming the line, for a cell without a key, a key given twice, and quotes that never close.
    """
    head = text.partition("\n")[0]
    given = (line + "\n" for line in text.split("\n"))
    reader = csv.reader(given, delimiter=max(",;\t", key=head.count), strict=True)
    found: list[Row] = []
    keys: list[str] = []
    line = 1
    try:
        for cells in reader:
            where = f"{name} line {line}"
            if not keys:
                keys = [cell.strip() for cell in cells]
                if twice := next((key for key in keys if key and keys.count(key) > 1), None):
                    raise UsageError(f"{where}: key {twice!r} stands twice; name every column once")
            elif any(cell.strip() for cell in cells):
                if any(cell.strip() and not key for key, cell in zip_longest(keys, cells, fillvalue="")):
                    raise UsageError(f"{where}: a cell has no key above it; name every column in the first line")
                value = {key: cell for key, cell in zip(keys, cells, strict=False) if cell.strip()}
                found.append(Row(line, where, value))
            line = reader.line_num + 1
    except csv.Error as error:
        raise UsageError(f"{name} line {line}: not CSV ({error}); save the file as CSV anew") from None
    for row in found:
        check_text(row.value, row.where)
    return found


def check_text(value: Any, where: str) -> None:
    """Raises UsageError where a text in ``value`` is not valid Unicode: half of a UTF-16 pair."""
    if isinstance(value, str):
        half = next((c for c in value if "\ud800" <= c <= "\udfff"), None) if not value.isascii() else None
        if half is not None:
            said = f"holds {shown.line(half)}, half of a character (a UTF-16 surrogate without its pair)"
            raise UsageError(f"{where}: {said}; write the whole character or remove it")
    elif isinstance(value, dict):
        for key, item in value.items():
            check_text(key, where)
            check_text(item, where)
    elif isinstance(value, list):
        for item in value:
            check_text(item, where)


def _lines(text: str, name: str) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip(_BLANK):
            where = f"{name} line {number}"
            yield Row(number, where, _value(line.strip(_BLANK), where))


def _value(text: str, where: str) -> Any:
    try:
        return jsontext.loads(text, once=True)
    except jsontext.TwiceError as error:
        raise UsageError(f"{where}: {error}; leave one of them out") from None
    except ValueError as error:
        raise UsageError(
            f"{where}: not JSON ({error}); write one JSON object a line, or name it .csv or .txt"
        ) from None


def _array(text: str, name: str) -> Iterator[Row]:
    value = _value(text, f"{name}, a JSON array")
    for number, item in enumerate(value, start=1):
        yield Row(number, f"{name} item {number}", item)


def _spanning(text: str, name: str) -> list[Row]:
    """Objects that span lines, as programs indent them; none unless the whole text is such objects."""
    first = text.lstrip(_BLANK).split("\n", 1)[0].rstrip(_BLANK + ",")
    if not first.startswith("{") or first.endswith("}"):
        return []
    decoder, found, at = json.JSONDecoder(object_pairs_hook=jsontext.keys_once), [], text.index("{")
    line = text.count("\n", 0, at) + 1
    while at < len(text.rstrip(_BLANK)):
        try:
            value, end = decoder.raw_decode(text, at)
        except jsontext.TwiceError as error:
            raise UsageError(f"{name} line {line}: {error}; leave one of them out") from None
        except (ValueError, RecursionError):
            return []
        found.append(Row(line, f"{name} line {line}", value))
        after = _SEPARATORS.match(text, end)
        following = after.end() if after else end
        line += text.count("\n", at, following)
        at = following
    return found
