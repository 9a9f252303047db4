"""Questions about videos from miniatures in the official layout of each data set."""

import json
import shutil

import pytest
from question_miniatures import (
    build_activitynet_qa,
    build_msrvtt_qa,
    build_msvd_qa,
    build_plain_qa,
    build_tgif_qa,
    write_video,
)

from elysium.processing.video_io import read_video
from elysium.readers.frame_sources import DatasetError
from elysium.readers.video_qa import read_video_questions

BUILDERS = {
    "msvd-qa": build_msvd_qa,
    "msrvtt-qa": build_msrvtt_qa,
    "tgif-qa": build_tgif_qa,
    "activitynet-qa": build_activitynet_qa,
    "video-qa": build_plain_qa,
}


def read(dataset, folder, **options):
    return list(read_video_questions(dataset, folder, **options))


def test_msvd_names_videos_by_its_mapping_and_types_questions_by_their_first_word(tmp_path):
    found = read("msvd-qa", build_msvd_qa(tmp_path))
    assert [question.video.name for question in found] == ["-4wsuPCjDBc_5_15.avi"] * 2 + [
        "-7KMZQEsJW4_205_208.avi"
    ] * 2
    assert [question.question_type for question in found] == ["how", "what", "who", "how"]
    assert (found[1].question, found[1].answer) == ("what moves?", "square")


def test_msvd_without_its_mapping_finds_videos_by_their_numbers(tmp_path):
    build_msvd_qa(tmp_path)
    (tmp_path / "youtube_mapping.txt").unlink()
    shutil.rmtree(tmp_path / "YouTubeClips")
    for number in (1201, 1202):
        write_video(tmp_path / "video" / f"vid{number}.mp4")
    assert read("msvd-qa", tmp_path)[0].video == tmp_path / "video" / "vid1201.mp4"


def test_rows_may_name_the_file_of_their_video(tmp_path):
    build_msrvtt_qa(tmp_path)
    rows = [{"question": "what?", "answer": "square", "video": "video7010.mp4", "id": 1}]
    (tmp_path / "test_qa.json").write_text(json.dumps(rows))
    assert read("msrvtt-qa", tmp_path)[0].video.name == "video7010.mp4"


def test_tgif_reads_tabs_and_quotes_and_names_the_types_of_frame_qa(tmp_path):
    found = read("tgif-qa", build_tgif_qa(tmp_path))
    assert [(one.question, one.answer, one.question_type) for one in found] == [
        ("how many frames are there ?", "sixteen", "number"),
        ('what is "red" ?', "square", "object"),
    ]
    assert found[0].video.suffix == ".gif"


def test_activitynet_joins_answers_by_id_and_finds_every_suffix(tmp_path):
    found = read("activitynet-qa", build_activitynet_qa(tmp_path))
    assert [(one.answer, one.question_type) for one in found] == [
        ("16", "number"),
        ("yes", "yes/no"),
        ("11", "number"),
    ]
    assert [one.video.suffix for one in found] == [".mp4", ".mkv", ".webm"]
    assert all(len(read_video(one.video, num_frames=4)) == 4 for one in found)


def test_plain_rows_name_videos_from_their_own_folder(tmp_path):
    build_plain_qa(tmp_path)
    for place in (tmp_path, tmp_path / "test.jsonl"):
        found = read("video-qa", place)
        assert [(one.video, one.question_type) for one in found] == [
            (tmp_path / "clips" / "one.mp4", "count"),
            (tmp_path / "clips" / "one.mp4", "other"),
        ]


@pytest.mark.parametrize("dataset", BUILDERS)
def test_missing_videos_are_counted_and_the_first_is_named(dataset, tmp_path):
    folder = BUILDERS[dataset](tmp_path)
    questions = read(dataset, folder)
    videos = {question.video for question in questions}
    for video in videos:
        video.unlink()
    with pytest.raises(DatasetError, match=rf"got {len(videos)} missing, first \S*{questions[0].video.stem}"):
        read(dataset, folder)


@pytest.mark.parametrize("dataset", BUILDERS)
def test_keys_are_unique_and_the_same_every_time(dataset, tmp_path):
    folder = BUILDERS[dataset](tmp_path)
    first, second = ([one.key for one in read(dataset, folder)] for _ in range(2))
    assert first == second
    assert len(set(first)) == len(first)


def test_a_limit_needs_only_the_videos_that_it_asks_about(tmp_path):
    folder = build_msvd_qa(tmp_path)
    (folder / "YouTubeClips" / "-7KMZQEsJW4_205_208.avi").unlink()
    assert len(read("msvd-qa", folder, limit=2)) == 2
    with pytest.raises(DatasetError, match="got 1 missing"):
        read("msvd-qa", folder)


def test_a_question_without_an_answer_names_its_row(tmp_path):
    folder = build_msvd_qa(tmp_path)
    rows = json.loads((folder / "test_qa.json").read_text())
    del rows[1]["answer"]
    (folder / "test_qa.json").write_text(json.dumps(rows))
    with pytest.raises(DatasetError, match=r"must have question, answer, got .* in row 1 of \S+test_qa.json"):
        read("msvd-qa", folder)


def test_an_unanswered_question_of_activitynet_is_named(tmp_path):
    folder = build_activitynet_qa(tmp_path)
    (folder / "test_a.json").write_text(json.dumps(json.loads((folder / "test_a.json").read_text())[1:]))
    with pytest.raises(DatasetError, match="none for v_sJFgo9H6zNo_1"):
        read("activitynet-qa", folder)


@pytest.mark.parametrize("line", ["{", "[1]", '{"video": "clips/one.mp4", "question": "what?"}'])
def test_a_row_that_cannot_be_used_names_its_line(line, tmp_path):
    folder = build_plain_qa(tmp_path)
    with (folder / "test.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(DatasetError, match=r"line 3 of \S+test.jsonl"):
        read("video-qa", folder)


def test_another_layout_says_what_was_looked_for(tmp_path):
    with pytest.raises(DatasetError, match="must hold test_qa.json in"):
        read("msvd-qa", tmp_path)
    with pytest.raises(DatasetError, match="must be one of msvd-qa"):
        read("vqa", tmp_path)
    with pytest.raises(DatasetError, match="must be in an existing folder"):
        read("msvd-qa", tmp_path / "nowhere")
