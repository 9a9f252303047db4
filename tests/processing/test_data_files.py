"""The guarded loaders: whatever a file holds, an error names the rule, the value, the place and the remedy."""

import json

import pytest

from elysium.processing.data_files import (
    DatasetError,
    is_number,
    parse_json,
    parse_json_object,
    read_csv,
    read_json,
    read_json_lines,
    read_text,
    read_yaml,
)

BAD_JSON = {
    "nesting": ("[" * 5000 + "]" * 5000, "more than 100 levels of nesting"),
    "open nesting": ("[" * 5000, "more than 100 levels of nesting"),
    "nested objects": ('{"a":' * 200 + "1" + "}" * 200, "more than 100 levels of nesting"),
    "5,000 digits": ("1" * 5000, "the whole number 1{24}…, beyond 64 bits"),
    "65 bits": ("9223372036854775808", "beyond 64 bits"),
    "float": ("[1e400]", "the number 1e400, beyond 1.8e308"),
    "long float": ("[" + "9" * 400 + ".5]", "beyond 1.8e308"),
    "NaN": ("[NaN]", "got NaN, which is no JSON: null"),
    "Infinity": ("[-Infinity]", "got -Infinity"),
    "surrogate": ('"\\ud800"', "half of a surrogate pair"),
    "NUL": ('"\0"', "NUL byte"),
    "UTF-16": ("[1]".encode("utf-16"), "got UTF-16"),
    "UTF-16 without mark": ("[1]".encode("utf-16-le"), "NUL byte.* is it UTF-16"),
    "latin-1": ('"é"'.encode("latin-1"), "byte 0xe9 at 1"),
    "surrogate bytes": (b'"\xed\xa0\x80"', "byte 0xed at 1"),
    "nothing": ("", "got Expecting value"),
    "cut": ('{"a": [1, 2', "got Expecting ',' delimiter"),
}


@pytest.mark.parametrize(("text", "message"), BAD_JSON.values(), ids=BAD_JSON)
def test_json_that_cannot_be_relied_on_is_refused_with_its_place(text, message):
    with pytest.raises(DatasetError, match=message) as caught:
        parse_json(text, "line 3 of a.jsonl")
    assert "line 3 of a.jsonl" in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        [1.5e300, -2.5e-320, 9223372036854775807, -9223372036854775808],
        {"a": ["[" * 500, '"{' * 500, "\\" * 501]},
        "😀 \ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"),
        [[[["deep"] * 200] * 2] * 3],
        {"digits": "1" * 5000, "exponent": "1e400"},
    ],
    ids=["limits", "brackets in text", "pairs", "wide", "numbers in text"],
)
def test_json_within_the_limits_is_what_was_written(value):
    assert parse_json(json.dumps(value), "x") == value
    assert parse_json(json.dumps(value, ensure_ascii=False).encode(), "x") == value


def test_a_byte_order_mark_is_passed_over(tmp_path):
    for name in ("a.json", "a.jsonl", "a.csv", "a.yaml"):
        (tmp_path / name).write_bytes(b'\xef\xbb\xbf{"a": 1}\n')
    assert read_json(tmp_path / "a.json") == read_yaml(tmp_path / "a.yaml") == {"a": 1}
    assert [row for _, row in read_json_lines(tmp_path / "a.jsonl")] == [{"a": 1}]
    assert read_csv(tmp_path / "a.csv").columns == ['{"a": 1}']


def test_a_log_of_training_may_hold_nan(tmp_path):
    (tmp_path / "state.json").write_text('{"loss": NaN, "step": 1e400}')
    assert read_json(tmp_path / "state.json", allow_nan=True)["step"] == float("inf")
    with pytest.raises(DatasetError, match="got NaN"):
        read_json(tmp_path / "state.json")


def test_a_line_that_is_no_object_is_named(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"a": 1}\n\n[2]\n')
    rows = read_json_lines(tmp_path / "rows.jsonl")
    assert next(rows) == (f"line 1 of {tmp_path / 'rows.jsonl'}", {"a": 1})
    with pytest.raises(DatasetError, match="a row must be a JSON object, got list in line 3 of .*rows.jsonl"):
        next(rows)
    with pytest.raises(DatasetError, match="got int in here"):
        parse_json_object("1", "here")


@pytest.mark.parametrize("name", ["no.json", "a" * 300, "nul\0", "half\udce9", ""], ids=str.__len__)
def test_a_file_that_cannot_be_opened_is_named(name, tmp_path):
    with pytest.raises(DatasetError, match="a file that can be read, got"):
        read_text(tmp_path / name)
    with pytest.raises(DatasetError, match="a file that can be read, got"):
        next(read_json_lines(tmp_path / name))


@pytest.mark.parametrize("mark", [",", ";", "\t"], ids=["comma", "semicolon", "tab"])
def test_cells_may_stand_apart_by_any_of_three_marks(mark, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(f'a{mark}b{mark}"c;\t,"\r\n1{mark}"2{mark}""3"""{mark}\r\n\r\n', newline="")
    table = read_csv(path)
    assert (table.delimiter, table.columns) == (mark, ["a", "b", "c;\t,"])
    assert list(table.rows()) == [(f"line 2 of {path}", {"a": "1", "b": f'2{mark}"3"', "c;\t,": ""})]


def test_a_cell_that_is_too_long_is_named_by_its_line(tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n1,2\n1," + "x" * 131_073 + "\n")
    rows = read_csv(tmp_path / "a.csv").rows()
    next(rows)
    with pytest.raises(DatasetError, match=r"at most 131072 characters, .* in line 3 of .*a.csv"):
        next(rows)


def test_a_record_with_other_cells_than_the_header_is_named(tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n1,2,3\n")
    with pytest.raises(DatasetError, match="as the header, 2, got 3 in line 2 of .*not decimal commas"):
        next(read_csv(tmp_path / "a.csv").rows())


@pytest.mark.parametrize(
    "text",
    ["a: [", "a: b: c", "[" * 3000, "!!python/object:os.system x", "a: 2001-99-99", "!!int x", "{[1]: 2}", "a\x07b"],
)
def test_yaml_that_cannot_be_read_is_refused(text, tmp_path):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(DatasetError, match="a YAML file must be plain YAML, got .*a.yaml"):
        read_yaml(tmp_path / "a.yaml")


def test_true_is_no_number():
    assert [is_number(value) for value in (1, 1.5, True, "1", None)] == [True, True, False, False, False]
