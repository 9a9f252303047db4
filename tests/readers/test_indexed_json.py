"""Large JSON lists that are read by index: their values and bytes, and what is said of broken files."""

import json

import pytest

from elysium.readers.frame_sources import DatasetError
from elysium.readers.indexed_json import index_json_array, scan_json_array

TEXTS = (
    "[]",
    ' [ 1 , 23,"a]b" ]\n',
    '[{"a": [1, 2, {"b": "c, d"}]}, "\\u00e9\\"", null, -1.5e3, 12345678901]',
    '\ufeff[{"a": "é – 日本"}, {"b": "\\\\"}]',
)


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_the_elements_of_a_json_list_are_found_with_their_bytes(text, tmp_path):
    path = tmp_path / "list.json"
    path.write_text(text, encoding="utf-8")
    expected = json.loads(text.lstrip("\ufeff"))
    found = list(scan_json_array(path))
    assert [value for _, _, value in found] == expected
    data = path.read_bytes()
    assert [json.loads(data[start:stop]) for start, stop, _ in found] == expected
    if expected:
        assert list(index_json_array(path)[0]) == list(enumerate(expected))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "JSON list, got no '\\['"),
        (b'{"a": 1}', "got no '\\[' near byte 0"),
        (b'[{"a": 1}', "got no ',' near byte 9"),
        (b'[{"a": 1}, {"b": "cut', "got Unterminated string"),
        (b"[{'a': 1}]", "got Expecting property name"),
        (b'[{"a": 1}x]', "got no ',' near byte 9"),
        (b'["\xff"]', "got byte 0xff .*it is not UTF-8"),
        (b"[]", "entries to learn from, got none"),
    ],
    ids=["empty", "object", "open", "cut", "quotes", "letter", "latin-1", "nothing"],
)
def test_a_file_that_is_no_json_list_is_refused(data, message, tmp_path):
    (tmp_path / "list.json").write_bytes(data)
    with pytest.raises(DatasetError, match=message):
        index_json_array(tmp_path / "list.json")


def test_a_json_file_that_is_missing_or_changes_is_named(tmp_path):
    with pytest.raises(DatasetError, match="can be read, got .*no.json"):
        index_json_array(tmp_path / "no.json")
    path = tmp_path / "list.json"
    path.write_text('[{"a": 1}, {"a": 2}]')
    elements, _ = index_json_array(path)
    path.write_text('[{"a": 1}]')
    with pytest.raises(DatasetError, match="stay as it was when it was opened"):
        elements[1]
