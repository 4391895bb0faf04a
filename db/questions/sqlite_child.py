"""The program that db.questions.sql runs for a query on SQLite: a process of its own can be ended at any moment.

It reads one JSON object on standard input (`database`, a URI; `query`; `rows`, the most that are wanted; `seconds`) and
writes a JSON value on each line: {"columns": [...]}, then each row as an array, and {"error": "..."} where it failed.
After `seconds` it is gone, by the signal SIGALRM. It imports the standard library alone: it starts in milliseconds.
"""

from __future__ import annotations

import json
import signal
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import Any

LONGEST_VALUE = 8 << 20
"""Bytes."""
LARGEST_RESULT = 128 << 20
"""Bytes, of all values of all rows."""
_LARGEST_HEAP = 512 << 20
"""Bytes that SQLite itself may take; sorting, too, happens within them."""
_OVERHEAD = 64
"""Bytes that a value takes beside its content."""
_LONGEST_PATTERN = 200
_ALLOWED = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE)
_REFUSED_FUNCTIONS = ("load_extension", "fts3_tokenizer")


class TooLargeError(Exception):
    """A result is larger than LARGEST_RESULT."""


def size(row: tuple[Any, ...]) -> int:
    """Return about how many bytes a row takes in memory."""
    return sum(_OVERHEAD + (len(value) if isinstance(value, str | bytes) else 0) for value in row)


def _answer(database: str, query: str, rows: int) -> Iterator[Any]:
    with closing(sqlite3.connect(database, uri=True, isolation_level=None)) as connection:
        connection.text_factory = lambda raw: raw.decode("utf-8", "replace")  # SQL can cut a character in two
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_VALUE)
        connection.setlimit(sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, _LONGEST_PATTERN)
        connection.execute("PRAGMA temp_store = MEMORY")  # not in files, which could fill a disk
        connection.execute(f"PRAGMA hard_heap_limit = {_LARGEST_HEAP}")
        connection.set_authorizer(_authorize)
        cursor = connection.execute(query)
        yield {"columns": [name for name, *_ in cursor.description or ()]}
        left = LARGEST_RESULT
        for row in iter(cursor.fetchone, None):
            if rows <= 0:
                return
            rows, left = rows - 1, left - size(row)
            if left < 0:
                raise TooLargeError
            yield [value.hex() if isinstance(value, bytes) else value for value in row]


def _authorize(action: int, _first: str | None, second: str | None, _database: str | None, _inner: str | None) -> int:
    allowed = action in _ALLOWED and not (action == sqlite3.SQLITE_FUNCTION and second in _REFUSED_FUNCTIONS)
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY


def run() -> None:
    """Answer what is asked on standard input."""
    asked = json.load(sys.stdin.buffer)
    for number in (signal.SIGINT, signal.SIGALRM):  # whoever started it may have blocked or ignored them
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGALRM))
    signal.setitimer(signal.ITIMER_REAL, asked.pop("seconds"))
    try:
        for line in _answer(**asked):
            sys.stdout.write(f"{json.dumps(line)}\n")
    except MemoryError:
        sys.stdout.write('{"error": "out of memory"}\n')
    except TooLargeError:
        sys.stdout.write('{"error": "result too large"}\n')
    except (sqlite3.Error, sqlite3.Warning) as error:
        sys.stdout.write(f"{json.dumps({'error': str(error)})}\n")


if __name__ == "__main__":
    run()
