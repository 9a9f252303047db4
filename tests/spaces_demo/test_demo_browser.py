"""The page in a real browser: a mouse, a finger, a phone's width, light and dark."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from elysium import cli

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium was found on the path"),
]

CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
CONTRAST = Path(__file__).with_name("contrast.js").read_text()
SCRIPT = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *CAMERA])
        yield launched
        launched.close()


@pytest.fixture
def view(browser, address) -> Iterator[Any]:
    """The page at a desktop's width, with its model loaded; a script that ran or a request elsewhere fails a test."""
    yield from opened(browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True), address)


@pytest.fixture
def phone(browser, address) -> Iterator[Any]:
    """The page on a phone, in the dark."""
    size = {"width": 390, "height": 844}
    context = browser.new_context(viewport=size, has_touch=True, is_mobile=True, color_scheme="dark")
    yield from opened(context, address)


def opened(context: Any, address: str) -> Iterator[Any]:
    wrong: list[str] = []
    page = context.new_page()
    page.on("dialog", lambda dialog: (wrong.append(f"script ran: {dialog.message}"), dialog.dismiss()))
    page.on("request", lambda sent: wrong.append(sent.url) if not is_own(sent.url, address) else None)
    page.set_default_timeout(120_000)
    page.goto(address)
    page.locator(".state.ready").wait_for()
    yield page
    context.close()
    assert not wrong


def is_own(url: str, address: str) -> bool:
    return url.startswith((address, "data:", "blob:"))


def upload(page: Any, video: Path) -> None:
    """Uploads a video and waits for its first frame."""
    page.locator("#video input[type=file]").set_input_files(str(video))
    page.locator("#boxes canvas").wait_for(state="visible")


def drag(page: Any, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Draws with the mouse, between places in 0..1 of the canvas."""
    page.locator("#boxes canvas").scroll_into_view_if_needed()
    frame = page.locator("#boxes canvas").bounding_box()
    places = [(frame["x"] + x * frame["width"], frame["y"] + y * frame["height"]) for x, y in (start, end)]
    page.mouse.move(*places[0])
    page.mouse.down()
    page.mouse.move(*places[1], steps=4)
    page.mouse.up()


def drawn(page: Any) -> list[list[int]]:
    """The boxes as the page lists them."""
    lines = page.locator("#boxes .boxes li").all_inner_texts()
    return [[int(number) for number in re.findall(r"\d+", line.split(":")[1])] for line in lines]


def download(page: Any, suffix: str) -> bytes:
    """A file of the results."""
    with page.expect_download() as waiting:
        page.locator(f"a[download$='{suffix}']").first.click()
    return Path(waiting.value.path()).read_bytes()


def test_a_box_that_is_drawn_is_tracked_as_on_the_command_line(view, clip, tmp_path, monkeypatch):
    upload(view, clip)
    drag(view, (0.52, 0.41), (0.70, 0.65))
    (box,) = drawn(view)
    assert all(abs(value - wanted) <= 2 for value, wanted in zip(box, (250, 148, 336, 234), strict=True))
    view.get_by_role("textbox", name="Text prompts").first.fill("the red cross")
    view.evaluate(
        """() => { window.counts = [];
        new MutationObserver(() => {
          const count = document.querySelector('#live .count')?.textContent;
          if (count && count !== window.counts.at(-1)) window.counts.push(count);
        }).observe(document.body, {childList: true, subtree: true, characterData: true}); }"""
    )
    view.locator("#track").click()
    view.locator("#summary li").wait_for()
    counts = [count for count in view.evaluate("window.counts") if count != "0 of 20 frames"]  # there for a moment
    assert counts[:2] == ["8 of 20 frames", "15 of 20 frames"]
    monkeypatch.chdir(clip.parent)
    args = ["track", clip.name, "--text", "the red cross", "--box", ",".join(map(str, box)), "--model", "elysium-tiny"]
    assert cli.run([*args, "--boxes", str(tmp_path / "boxes.json")]) == 0
    page, typed = json.loads(download(view, ".json")), json.loads((tmp_path / "boxes.json").read_text())
    scores = [[frame.pop("score") for frame in told["tracks"][0]["frames"]] for told in (page, typed)]
    assert page == typed and scores[0] == pytest.approx(scores[1], abs=1e-4)  # frames may be read in other batches
    assert typed["tracks"][0]["init_box_xyxy_px"] == box
    assert view.locator("video").is_visible() and not view.locator("#live").count()
    view.get_by_role("tab", name="Contact sheet").click()
    view.locator("img[src*='sheet.png']").wait_for()
    view.get_by_role("tab", name="Plots").click()
    view.locator(".vega-embed").nth(3).wait_for()
    assert view.locator(".vega-embed").count() == 4


def test_boxes_are_drawn_typed_and_removed(view, clip):
    upload(view, clip)
    drag(view, (0.1, 0.1), (0.3, 0.4))
    drag(view, (0.9, 0.9), (0.6, 0.5))
    drag(view, (0.5, 0.5), (0.5, 0.5))
    assert len(drawn(view)) == 2 and all(x1 < x2 and y1 < y2 for x1, y1, x2, y2 in drawn(view))
    view.locator("#boxes .typed").fill("10, 20, 30, 40")
    view.locator("#boxes .typed").press("Enter")
    assert drawn(view)[2] == [10, 20, 30, 40]
    view.locator("#boxes .typed").fill("30,20,10,400")
    view.locator("#boxes .add").click()
    assert "inside 0,0,480,360" in view.locator("#boxes .note").inner_text() and len(drawn(view)) == 3
    for left in (2, 1, 0):
        view.locator("#boxes .boxes button").first.click()
        assert len(drawn(view)) == left


def test_a_box_on_nearly_the_same_place_replaces_the_first_and_says_so(view, clip):
    upload(view, clip)
    for box in ("10,20,210,220", "12,20,210,222", "60,20,260,220"):
        view.locator("#boxes .typed").fill(box)
        view.locator("#boxes .typed").press("Enter")
        if box == "12,20,210,222":
            assert drawn(view) == [[12, 20, 210, 222]]
            assert "replaces box 1" in view.locator("#boxes .note").inner_text()
    assert drawn(view) == [[12, 20, 210, 222], [60, 20, 260, 220]]


@pytest.mark.parametrize(
    ("box", "corner", "beside"),
    [
        ("200,100,212,112", (200, 100), (2, -18)),
        ("200,0,212,12", (200, 12), (2, 2)),
        ("200,0,240,360", (200, 0), (-18, 2)),
    ],
    ids=["above", "below", "to the left"],
)
def test_the_number_of_a_box_hides_none_of_it(view, clip, box, corner, beside):
    upload(view, clip)
    view.locator("#boxes .typed").fill(box)
    view.locator("#boxes .typed").press("Enter")
    scale = 480 / view.locator("#boxes canvas").bounding_box()["width"]
    spot = [round(start + scale * offset) for start, offset in zip(corner, beside, strict=True)]
    color = "([x, y]) => [...document.querySelector('#boxes canvas').getContext('2d').getImageData(x, y, 1, 1).data]"
    assert view.evaluate(color, spot)[:3] == [0, 184, 245]


def test_every_tab_answers_and_runs_no_markup(view, clip):
    upload(view, clip)
    view.get_by_role("tab", name="Ground").click()
    view.get_by_role("textbox", name="Text prompts").last.fill(f"the red cross\n{SCRIPT}")
    view.locator("#ground").click()
    view.get_by_text("box_xyxy_px").first.wait_for()
    view.get_by_role("tab", name="Describe").click()
    view.locator("#describe").click()
    view.get_by_text("there must be a box to describe, got none").wait_for()
    drag(view, (0.52, 0.41), (0.70, 0.65))
    view.locator("#describe").click()
    sync_api.expect(view.locator("#description textarea")).not_to_have_value("", timeout=120_000)
    view.get_by_role("tab", name="Ask").click()
    view.get_by_label("Question").fill(f"What is this? {SCRIPT}")
    view.get_by_label("Question").press("Enter")
    sync_api.expect(view.locator("#answer textarea")).not_to_have_value("", timeout=120_000)


def test_an_example_fills_in_the_page_and_another_file_empties_it(view):
    for _ in range(2):
        view.get_by_text("Example: a bird").click()
        view.locator("#boxes .boxes li").wait_for()
        assert drawn(view) == [[113, 0, 470, 360]]
        assert view.get_by_label("Text prompts").first.input_value() == "the bird"
        assert not view.locator("#video").count()
        view.locator("#another").click()
        view.locator("#video").wait_for()
        assert view.get_by_label("Text prompts").first.input_value() == ""
        assert not view.locator("#boxes canvas").count()


def test_a_run_that_is_stopped_makes_way_for_the_next(view):
    view.get_by_text("Example: a cup").click()  # the longest
    view.locator("#boxes canvas").wait_for()
    view.get_by_placeholder("or type x1,y1,x2,y2").fill("307,124,414,383")
    view.get_by_role("button", name="Add").click()
    view.locator("#track").click()
    view.locator("#live img").wait_for(state="visible")
    view.locator("#stop").click()
    view.get_by_role("tab", name="Describe").click()
    view.locator("#describe").click()
    sync_api.expect(view.locator("#description textarea")).not_to_have_value("", timeout=120_000)
    view.get_by_role("tab", name="Track").click()
    assert view.locator("#summary li").count() == 0


def test_a_finger_draws_on_a_phone_where_nothing_is_cut_off(phone, clip):
    upload(phone, clip)
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    phone.locator("#boxes canvas").scroll_into_view_if_needed()
    frame = phone.locator("#boxes canvas").bounding_box()
    touch = phone.context.new_cdp_session(phone)
    for kind, places in (("Start", [(0.2, 0.2)]), ("Move", [(0.4, 0.5)]), ("Move", [(0.6, 0.7)]), ("End", [])):
        points = [{"x": frame["x"] + x * frame["width"], "y": frame["y"] + y * frame["height"]} for x, y in places]
        touch.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": points})
    (box,) = drawn(phone)
    assert all(abs(value - wanted) <= 3 for value, wanted in zip(box, (96, 72, 288, 252), strict=True))


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (1440, 900)])
def test_the_task_stands_beside_the_file_above_the_fold(browser, address, width, height):
    for view in opened(browser.new_context(viewport={"width": width, "height": height}), address):
        view.get_by_text("Example: a cup").click()
        canvas = view.locator("#boxes canvas")
        canvas.wait_for()
        track, frame = view.locator("#track").bounding_box(), canvas.bounding_box()
        assert track["y"] + track["height"] < height and frame["y"] + frame["height"] < height
        assert frame["x"] + frame["width"] < track["x"]


def test_without_results_no_empty_panel_is_shown(phone):
    assert not phone.locator("#live, #summary, #found, #description, #answer").count()
    assert phone.evaluate("document.documentElement.scrollHeight") < 1300


def test_an_error_has_a_text_and_no_bare_pill(view):
    view.locator("#track").click()
    view.get_by_text("there must be a video or an image, got none").wait_for()
    assert not view.locator("[data-testid=status-tracker] .error").is_visible()


def test_the_keyboard_alone_tracks_an_example(view):
    def reach(name: str) -> None:
        for _ in range(40):
            view.keyboard.press("Tab")
            if name in view.evaluate("document.activeElement.innerText + document.activeElement.download"):
                return
        raise AssertionError(f"{name} is out of reach")

    reach("Example: shapes")
    view.keyboard.press("Enter")
    view.locator("#boxes canvas").wait_for()
    for _ in ("tab", "button"):
        reach("Track")
    view.keyboard.press("Enter")
    view.locator("#summary li").wait_for()
    reach(".json")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_its_ground_as_wcag_aa_wants(browser, address, clip, scheme):
    size = {"width": 1280, "height": 900}
    for view in opened(browser.new_context(viewport=size, color_scheme=scheme), address):
        view.locator("#track").click()
        view.get_by_text("there must be a video or an image, got none").wait_for()
        check_contrast(view)
        upload(view, clip)
        drag(view, (0.52, 0.41), (0.70, 0.65))
        for task, result in (("Track", "#summary li"), ("Ground", "#found"), ("Describe", "#description")):
            view.get_by_role("tab", name=task).click()
            check_contrast(view)
            if task == "Ground":
                view.get_by_label("Text prompts").last.fill("the red cross")
            view.locator(f"#{task.lower()}").click()
            view.locator(result).wait_for()
            check_contrast(view)
        view.get_by_role("tab", name="Ask").click()
        check_contrast(view)


def check_contrast(page: Any) -> None:
    """Check that the texts in sight have a contrast of at least 4.5:1, once what fades in or out has done so."""
    for _ in range(40):
        page.wait_for_timeout(500)
        texts = page.evaluate(CONTRAST)
        faint = [text for text in texts if text["ratio"] < 4.5]
        if not faint:
            break
    assert len(texts) > 10
    assert faint == []
