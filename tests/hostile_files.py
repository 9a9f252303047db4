"""What files should not hold, for property tests of readers (hypothesis)."""

import copy
import json
import math
import pickle
import re

from hypothesis import strategies as st


def _deep(levels: int) -> list:
    """Lists in one another."""
    deep: list = []
    for _ in range(levels):
        deep = [deep]
    return deep


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.lists(st.integers(-5, 5), max_size=5),
    st.lists(st.lists(st.floats(-2, 2), max_size=5), max_size=3),
    st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=3),
    st.sampled_from([10**400, -(2**63) - 1, 2**63 - 1, 1e308, math.nan, math.inf, "1e400", "nan", "true", "1,5"]),
    st.sampled_from(["", " ", "\ud800", "nul\0", "a" * 300, "../" * 40]),
    st.builds(_deep, st.sampled_from([1, 2, 300])),  # made anew each time: what is drawn may be changed afterwards
    st.builds(dict, bytes=st.just(10**12), path=st.none()),
)
FRAGMENTS = [
    b"",
    b"\0",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\xed\xa0\x80",
    b"\\ud800",
    b'"',
    b"\\",
    b"\n",
    b"\r",
    b",",
    b";",
    b"\t",
    b"[",
    b"}",
    b"[" * 3000,
    b'{"a":' * 2000,
    b"9" * 5000,
    b"1e400",
    b"-1e-400",
    b"NaN",
    b"-Infinity",
    b"nan",
    b"inf",
    b"1_0",
    b"1,5",
    b"1.234,5",
    b"true",
    b"null",
    b"x" * 300,
    b"x" * 140_000,
    "٣".encode(),
    "😀".encode(),
]


@st.composite
def damaged_bytes(draw, content: bytes):
    """Bytes that are cut, changed or added to in a few places, in another encoding, or others altogether."""
    kind = draw(st.sampled_from(["places", "places", "places", "words", "words", "words", "cut", "utf-16", "other"]))
    if kind == "other":
        return draw(st.binary(max_size=200))
    if kind == "utf-16":
        return content.decode("utf-8", "replace").encode("utf-16")
    if kind == "cut":
        return content[: draw(st.integers(0, len(content)))]
    spans = [found.span() for found in re.finditer(rb"[^\s,;:\[\]{}\"]+", content)] if kind == "words" else []
    for _ in range(draw(st.integers(1, 3))):
        fragment = draw(st.sampled_from(FRAGMENTS) | st.binary(max_size=4))
        if spans:
            start, stop = spans[draw(st.integers(0, len(spans) - 1))]
        else:
            start = draw(st.integers(0, len(content)))
            stop = start + draw(st.integers(0, 3))
        content = content[:start] + fragment + content[stop:]
    return content


@st.composite
def changed_values(draw, value):
    """A value of JSON with some of what is in it replaced, left out or doubled."""
    value = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, 3))):
        places = [(holder, key) for holder in _holders(value) for key in _keys(holder)]
        if not places:
            return draw(VALUES)
        holder, key = places[draw(st.integers(0, len(places) - 1))]
        what = draw(st.sampled_from(["replace", "replace", "replace", "remove", "double"]))
        if what == "replace":
            holder[key] = draw(VALUES)
        elif what == "remove":
            del holder[key]
        elif isinstance(holder, list):
            holder.append(copy.deepcopy(holder[key]))
    return draw(VALUES) if draw(st.integers(0, 20)) == 20 else value


def _holders(value):
    """Every list and dictionary in a value, but not so deep that Python would end."""
    waiting, found = [(value, 0)], []
    while waiting:
        one, depth = waiting.pop()
        if isinstance(one, list | dict) and depth < 20:
            found.append(one)
            waiting += [(item, depth + 1) for item in (one.values() if isinstance(one, dict) else one)]
    return found


def _keys(holder):
    return list(holder) if isinstance(holder, dict) else range(len(holder))


def hostile_content(name: str, content: bytes):
    """Hostile contents for a file, by its suffix and what it holds now."""
    suffix = name.rpartition(".")[2]
    if suffix == "json":
        changed = changed_values(json.loads(content)).map(lambda value: json.dumps(value).encode())
    elif suffix == "jsonl":
        rows = [json.loads(line) for line in content.splitlines()]
        changed = changed_values(rows).map(_lines)
    elif suffix == "p":
        value = pickle.loads(content, encoding="utf-8")
        changed = changed_values(value).map(pickle.dumps)
    else:
        return damaged_bytes(content)
    return changed | changed.flatmap(damaged_bytes) | damaged_bytes(content)


def _lines(value) -> bytes:
    rows = value if isinstance(value, list) else [value]
    return "".join(json.dumps(row) + "\n" for row in rows).encode()
