"""Requests that the page's own clients would never send, at the HTTP interface: none is read, none tells anything."""

import json
import os
import re
from pathlib import Path

import httpx
import pytest

SECRET = "a secret of the server"


@pytest.fixture
def secret(tmp_path) -> Path:
    """A file beside the page that no visitor may see."""
    path = tmp_path / "secret.mp4"
    path.write_text(SECRET)
    return path


@pytest.fixture
def http(address) -> httpx.Client:
    return httpx.Client(base_url=address, timeout=60, follow_redirects=True)


def as_file(path: str) -> dict:
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


def call(http: httpx.Client, endpoint: str, data: list) -> str:
    """What an endpoint says to a raw request, from its first word to its last."""
    reply = http.post(f"/gradio_api/call/{endpoint}", json={"data": data})
    if reply.status_code != 200:
        return reply.text
    return http.get(f"/gradio_api/call/{endpoint}/{reply.json()['event_id']}").text


@pytest.mark.parametrize("field", range(5))
def test_an_address_is_fetched_from_no_field(http, field, monkeypatch):
    fetched = []
    monkeypatch.setattr("gradio.processing_utils.async_ssrf_protected_download", lambda *a, **k: fetched.append(a))
    data = [None, None, "a cup", None, "elysium-tiny"]
    data[field] = as_file("http://example.org/a.mp4")
    assert "this page fetches nothing" in call(http, "track", data)
    assert not fetched


@pytest.mark.parametrize("field", range(5))
def test_a_path_of_the_server_is_read_from_no_field(http, secret, field):
    data = [None, None, "a cup", None, "elysium-tiny"]
    data[field] = as_file(str(secret))
    said = call(http, "track", data)
    assert "event: error" in said and SECRET not in said and str(secret.parent) not in said


def test_a_path_without_gradios_mark_is_refused(http, secret):
    said = call(http, "ask", [{"path": str(secret)}, None, "What is this?", "elysium-tiny"])
    assert "event: error" in said and str(secret) not in said


@pytest.mark.parametrize(
    "route",
    [
        "/gradio_api/file=http://example.org/a.mp4",
        "/gradio_api/file=file:///etc/passwd",
        "/gradio_api/proxy=http://example.org/",
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file=../../../../../../etc/passwd",
        "/gradio_api/file=%2e%2e/%2e%2e/etc/passwd",
        "/gradio_api/custom_component/../../etc/component/passwd",
        "/static/../../../etc/passwd",
        "/monitoring",
    ],
)
def test_no_route_serves_what_a_visitor_names(http, route):
    reply = http.get(route)
    assert reply.status_code >= 400
    assert "root:" not in reply.text and "Traceback" not in reply.text


def test_the_code_and_the_work_of_the_page_are_not_served(http):
    for path in (Path(__file__), Path(os.environ["GRADIO_TEMP_DIR"]).with_name("work")):
        assert http.get(f"/gradio_api/file={path}").status_code == 403


def test_a_body_is_refused_at_its_limit_whatever_length_it_declares(http):
    endless = json.dumps({"data": [None, None, "a" * 300_000, None, "elysium-tiny"]}).encode()
    assert http.post("/gradio_api/call/track", content=endless).status_code == 413
    pieces = (endless[start : start + 10_000] for start in range(0, len(endless), 10_000))
    assert http.post("/gradio_api/call/track", content=pieces).status_code == 413


def test_a_file_that_is_too_large_is_not_kept(http):
    kept = Path(os.environ["GRADIO_TEMP_DIR"])
    before = sum(path.stat().st_size for path in kept.rglob("*") if path.is_file())
    reply = http.post("/gradio_api/upload", files={"files": ("huge.mp4", bytes(51_000_000))})
    assert reply.status_code == 413
    form = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.mp4"\r\n\r\n'
    headers = {"content-type": "multipart/form-data; boundary=x"}
    # One file that is too large, and two that are only so together: Gradio's limit, and the middleware's.
    for starts in ((0,), (0, 30)):
        parts = (b"\r\n" * (number > 0) + form if number in starts else bytes(1_000_000) for number in range(60))
        assert http.post("/gradio_api/upload", content=parts, headers=headers).status_code == 413
    assert sum(path.stat().st_size for path in kept.rglob("*") if path.is_file()) == before


@pytest.mark.parametrize("body", [b"{", b"[" * 50_000, b"\xff\xfe", b'{"data": 3}', b'"data"', b'{"data": [{}]}'])
def test_broken_bodies_are_refused_without_a_traceback(http, body):
    reply = http.post("/gradio_api/call/track", content=body, headers={"content-type": "application/json"})
    assert 400 <= reply.status_code < 500 or (reply.status_code == 200 and "event_id" in reply.text)
    assert not re.search(r"Traceback|site-packages|\.py", reply.text)


def test_the_pages_own_events_check_files_too(http, secret):
    said = call(http, "show_first_frame", [as_file(str(secret)), None])
    assert "event: error" in said and SECRET not in said and str(secret) not in said
