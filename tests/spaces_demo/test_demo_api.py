"""The page's endpoints, as programs use them: answers of the command line, checks of the page."""

import json
import os
import time
from pathlib import Path

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from elysium import cli
from elysium.processing.structures import load_tracking_result
from elysium.processing.video_io import read_video

BOX = [249, 146, 335, 233]
ENDPOINTS = {"/track", "/ground", "/describe", "/ask"}


def track(client: Client, clip: Path, **given) -> tuple:
    return client.predict(video=handle_file(str(clip)), **given, api_name="/track")


def command_line(args: list[str], folder: Path, monkeypatch, capsys) -> str:
    """What a command prints with the page's model, run where its input lies."""
    monkeypatch.chdir(folder)
    assert cli.run([*args, "--model", "elysium-tiny"]) == 0
    return capsys.readouterr().out


def nothing_left_to_copy() -> bool:
    """Whether the results of all requests were removed, once Gradio had its copies."""
    work = Path(os.environ["GRADIO_TEMP_DIR"]).with_name("work")
    deadline_s = time.monotonic() + 10
    while any(work.iterdir()) and time.monotonic() < deadline_s:
        time.sleep(0.05)
    return work.is_dir() and not any(work.iterdir())


def test_the_endpoints_are_named_and_described(client):
    described = client.view_api(return_format="dict")
    assert set(described["named_endpoints"]) == ENDPOINTS
    assert not described["unnamed_endpoints"]
    for endpoint in described["named_endpoints"].values():
        assert len(endpoint["description"]) > 20
        assert all(parameter["parameter_has_default"] for parameter in endpoint["parameters"])


@pytest.mark.slow
def test_tracking_gives_the_files_of_the_command_line(client, clip, tmp_path, monkeypatch, capsys):
    asked = {"words": "the red cross\nthe yellow ring", "boxes": [BOX, [181, 219, 324, 360]]}
    _, summary, video, sheet, _, _, (boxes_json, boxes_csv) = track(client, clip, **asked)
    args = ["track", clip.name, "--text", "the red cross", "--text", "the yellow ring"]
    args += ["--box", "249,146,335,233", "--box", "181,219,324,360"]
    for suffix in ("json", "csv"):
        command_line([*args, "--boxes", str(tmp_path / f"boxes.{suffix}")], clip.parent, monkeypatch, capsys)
    assert Path(boxes_json).read_bytes() == (tmp_path / "boxes.json").read_bytes()
    assert Path(boxes_csv).read_bytes() == (tmp_path / "boxes.csv").read_bytes()
    assert load_tracking_result(boxes_json).complete
    assert len(read_video(video).frames) == 20
    assert len(read_video(sheet).frames) == 1
    assert summary.count("<li>") == 2 and "the red cross: a box in" in summary


def test_frames_come_window_by_window(client, clip):
    job = client.submit(video=handle_file(str(clip)), boxes=[BOX], api_name="/track")
    job.result()
    live = [update[0] for update in job.outputs()]
    done = [update["done"] for update in live]
    assert done[:3] == [0, 8, 15] and done[-1] == 20
    assert [len(update["frames"]) for update in live][:3] == [0, 8, 7]
    assert all(update["total"] == 20 for update in live)
    assert live[1]["frames"][0].startswith("data:image/jpeg;base64,")
    assert nothing_left_to_copy()


@pytest.mark.slow
def test_grounding_gives_the_boxes_of_the_command_line(client, picture, monkeypatch, capsys):
    drawn, found = client.predict(
        picture=handle_file(str(picture)), words="the red cross\nthe dog", api_name="/ground"
    )
    args = ["ground", picture.name, "--text", "the red cross", "--text", "the dog", "--json"]
    assert found == json.loads(command_line(args, picture.parent, monkeypatch, capsys))["groundings"]
    assert len(read_video(drawn).frames) == 1


def test_a_video_is_grounded_in_its_first_frame(client, clip):
    _, found = client.predict(video=handle_file(str(clip)), words="the red cross", api_name="/ground")
    assert [one["text"] for one in found] == ["the red cross"] and found[0]["width"] == 480


@pytest.mark.slow
def test_descriptions_and_answers_are_those_of_the_command_line(client, clip, picture, monkeypatch, capsys):
    described = client.predict(video=handle_file(str(clip)), boxes=[BOX], api_name="/describe")
    args = ["describe", clip.name, "--box", "249,146,335,233"]
    assert described == command_line(args, clip.parent, monkeypatch, capsys).strip()
    answer = client.predict(picture=handle_file(str(picture)), question="What is this?", api_name="/ask")
    assert answer == command_line(["ask", picture.name, "What is this?"], clip.parent, monkeypatch, capsys).strip()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "there must be an object to track, got none; draw a box, or type a text prompt"),
        ({"words": "a\nb", "boxes": [BOX]}, "got 2 lines and 1 boxes; draw a box for each line"),
        ({"boxes": [[0, 0, 900, 900]]}, "box_xyxy_px must lie inside the 480x360 image"),
        ({"words": "a" * 400}, "must have at most 120 characters, got 400; shorten it"),
    ],
    ids=["nothing", "counts", "outside", "endless"],
)
def test_a_refusal_is_said_in_the_words_of_the_page(client, clip, given, message):
    with pytest.raises(AppError) as refused:
        track(client, clip, **given)
    assert message in str(refused.value)


def test_a_broken_video_is_named_without_its_path(client, tmp_path):
    path = tmp_path / "broken.mp4"
    path.write_bytes(b"\0\0\0\x18ftypisom" + os.urandom(2000))
    with pytest.raises(AppError) as refused:
        track(client, path, boxes=[BOX])
    assert "broken.mp4" in str(refused.value) and os.environ["GRADIO_TEMP_DIR"] not in str(refused.value)


def test_an_unexpected_error_tells_nothing_of_the_server(client, clip, monkeypatch):
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("secret /etc/shadow")

    monkeypatch.setattr("elysium.tracking.tracker.Tracker.ask", broken)
    with pytest.raises(AppError) as refused:
        client.predict(video=handle_file(str(clip)), question="What?", api_name="/ask")
    assert "something went wrong on the server" in str(refused.value) and "secret" not in str(refused.value)


def test_only_models_of_the_list_are_loaded(client, clip):
    with pytest.raises(AppError):
        track(client, clip, boxes=[BOX], model="owner/other")
