"""Tracking by fast decoding gives the boxes and scores of the reference, and sees every picture once."""

import threading
from functools import cache

import numpy as np
import pytest
from number_tokenizers import number_model, number_processor
from seeing_model import SeeingModel, squares
from tiny import tiny_model, tiny_processor
from typer.testing import CliRunner

from benchmarks.decoding_models import MovingScene, ReplayAnswerer
from elysium.processing.video_io import Frame, VideoWriter
from elysium.tracking.answering import Answerer, WindowReader, prompt_ids
from elysium.tracking.options import TrackingOptions
from elysium.tracking.run import TrackingRun
from elysium.tracking.session import ObjectPrompt, TrackingSession
from elysium.tracking.streams import decode_ahead, open_stream
from elysium.tracking.tracker import Tracker

BOXES = [(2, 4, 30, 40), (20, 10, 60, 44), (8, 8, 20, 20)]


@cache
def noise(num_frames, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (num_frames, 48, 64, 3), dtype=np.uint8)


def tracker(decoding, way="numbers", *, absent=False, rounding="floor", seed=0, **options):
    processor = number_processor(way, rounding, absent)
    return Tracker(number_model(way, seed), processor, decoding=decoding, **options)


def assert_same(result, other):
    assert len(result.tracks) == len(other.tracks)
    for track, reference in zip(result.tracks, other.tracks, strict=True):
        np.testing.assert_array_equal(track.boxes_xyxy_px, reference.boxes_xyxy_px)
        np.testing.assert_allclose(track.scores, reference.scores, atol=1e-4)
        assert track.reasons == reference.reasons


def both(track, **options):
    fast, reference = (track(tracker(decoding, **options)) for decoding in ("fast", "reference"))
    assert_same(fast, reference)
    return fast


# --- equal to the reference, whatever is asked ---
@pytest.mark.parametrize("way", ["numbers", "digits"])
@pytest.mark.parametrize("rounding", ["floor", "round"])
def test_boxes_and_scores_are_those_of_the_reference_and_every_frame_has_a_box(way, rounding):
    result = both(lambda t: t.track(noise(10), box_xyxy_px=BOXES[:2], fps=10), way=way, rounding=rounding)
    for track in result.tracks:
        assert track.valid.all()
        assert ((track.scores > 0) & (track.scores <= 1)).all()


def test_absent_frames_and_words_that_are_asked_again_are_those_of_the_reference():
    result = both(
        lambda t: t.track(
            noise(24), ["the car", "a dog"], fps=10, options=TrackingOptions(window_frames=4, reask_after=2)
        ),
        absent=True,
        seed=9,  # of random weights that answer `none` in some frames and boxes in others
    )
    reasons = {reason for track in result.tracks for reason in track.reasons}
    assert reasons == {"absent", None}


@pytest.mark.parametrize("options", [{"reground": True}, {"zoom": 2.0}])
def test_regrounded_and_zoomed_tracks_are_those_of_the_reference(options):
    words = ["the car", "a dog"] if "reground" in options else None
    both(
        lambda t: t.track(
            noise(10), words, box_xyxy_px=BOXES[::2], fps=10, options=TrackingOptions(window_frames=5), **options
        )
    )


def test_many_videos_are_those_of_the_reference():
    items = [(noise(9, 1), "the car"), (noise(1, 2), BOXES[0]), (noise(12, 3), ObjectPrompt("a dog", BOXES[1]))]
    fast, reference = (tracker(way).track_many(items, fps=10) for way in ("fast", "reference"))
    for result, other in zip(fast, reference, strict=True):
        assert_same(result, other)


def test_more_objects_than_a_batch_are_those_of_one_by_one():
    together = tracker("fast", batch_size=2).track(noise(6), box_xyxy_px=BOXES, fps=10)
    for box, track in zip(BOXES, together.tracks, strict=True):
        alone = tracker("fast").track(noise(6), box_xyxy_px=box, fps=10)
        np.testing.assert_array_equal(alone.tracks[0].boxes_xyxy_px, track.boxes_xyxy_px)


def test_a_replayed_scene_is_followed_in_ten_passes_a_window_or_fewer():
    scene = MovingScene.make(2, 22, seed=3)
    model, processor, results, ways = number_model("digits"), number_processor("digits"), [], []
    for decoding in ("fast", "reference"):
        ways.append(ReplayAnswerer(model, processor, scene=scene, bias=30.0, decoding=decoding))
        sessions = [
            TrackingSession(ObjectPrompt(box_xyxy_px=box), width=320, height=240, track_id=number)
            for number, box in enumerate(scene.first_boxes_px(), start=1)
        ]
        run = TrackingRun(ways[-1], open_stream(scene.frames, fps=10), sessions, model="replay")
        list(run)
        results.append(run.result())
    assert_same(*results)
    counts = ways[0]._reader.decoder.counts
    assert counts.prefix_forwards == 3
    assert counts.check_forwards <= 3 * 9
    assert 0.3 < counts.acceptance < 1


# --- what is seen and read once ---
class CountingReader:
    """Counts frames that the vision tower sees, and passes that read windows."""

    def __init__(self, tracker, monkeypatch):
        self.reader = tracker._answerer._reader
        self.frames_seen = 0
        see = self.reader.model.get_video_features
        monkeypatch.setattr(
            self.reader.model,
            "get_video_features",
            lambda pixels, **options: self._count(pixels) or see(pixels, **options),
        )

    def _count(self, pixels):
        self.frames_seen += len(pixels)

    @property
    def windows_read(self):
        return self.reader.decoder.counts.prefix_forwards


def test_each_frame_is_seen_once_and_each_window_read_once_for_all_objects(monkeypatch):
    chosen = tracker("fast")
    count = CountingReader(chosen, monkeypatch)
    chosen.track(noise(22), box_xyxy_px=BOXES, fps=10)
    assert (count.frames_seen, count.windows_read) == (22, 3)


def test_without_semantic_encoders_a_frame_asked_for_by_words_is_not_seen_again_by_its_box(monkeypatch):
    chosen = tracker("fast")
    count = CountingReader(chosen, monkeypatch)
    chosen.track(noise(22), "the car", fps=10)
    assert count.frames_seen == 22


def test_windows_of_a_file_are_read_together_and_the_boxes_stay(tmp_path, monkeypatch):
    with VideoWriter(tmp_path / "noise.mp4", fps=10, width=64, height=48) as writer:
        for frame in noise(30):
            writer.write(frame)
    chosen = tracker("fast")
    count = CountingReader(chosen, monkeypatch)
    result = chosen.track(tmp_path / "noise.mp4", box_xyxy_px=BOXES[:2])
    assert (count.frames_seen, count.windows_read) == (30, 2)  # four windows, and the short last one
    alone = TrackingOptions(windows_ahead=0)
    assert_same(result, tracker("fast").track(tmp_path / "noise.mp4", box_xyxy_px=BOXES[:2], options=alone))
    assert_same(result, tracker("reference").track(tmp_path / "noise.mp4", box_xyxy_px=BOXES[:2]))


def test_no_picture_is_held_that_no_window_to_come_may_show():
    chosen = tracker("fast")
    reader = chosen._answerer._reader
    for _ in chosen.iter_track(noise(40), box_xyxy_px=BOXES[:2], fps=10):
        assert len(reader._seen) <= 8
        assert len(reader._prefixes) == 1


def test_prompts_of_fast_decoding_are_those_of_the_reference():
    session = TrackingSession(ObjectPrompt("the car"), width=64, height=48)
    for frame in noise(8):
        session.feed(frame, timestamp_s=0.0)
    request = session.next_window()
    processor = tiny_processor()
    answerer = Answerer(tiny_model(), processor)
    whole = processor.apply_chat_template(
        [answerer.window_conversation(request)], add_generation_prompt=True, tokenize=True, return_dict=True
    )
    reader = WindowReader(tiny_model(), processor)
    beginning, question = prompt_ids(processor, 8, reader._words(request))
    assert [*beginning, *question] == whole["input_ids"][0]


# --- which decoding is used ---
def test_fast_is_the_default_and_another_is_taken_with_a_warning_where_it_cannot_be_done(monkeypatch):
    assert Tracker(tiny_model(), tiny_processor()).decoding == "fast"
    model = number_model("digits", 9)
    monkeypatch.setattr(model.model.language_model.config, "_attn_implementation", "flex_attention")
    with pytest.warns(UserWarning, match="attention 'flex_attention'.* answered by decoding='reference'"):
        assert Tracker(model, number_processor("digits")).decoding == "reference"


def test_a_tokenizer_that_the_grammar_cannot_take_is_decoded_plainly_with_a_warning():
    with pytest.warns(UserWarning, match="numbers and what stands between them apart.*answered by decoding='plain'"):
        chosen = Tracker(number_model("glued"), number_processor("glued"))
    assert chosen.decoding == "plain"


def test_a_model_of_another_kind_is_asked_as_it_is():
    with pytest.warns(UserWarning, match="a SeeingModel has no generate of transformers'"):
        chosen = Tracker(SeeingModel(tiny_model(), tiny_processor()), tiny_processor(), decoding="reference")
    frames, _ = squares(3, {"red": (2, 4)})
    assert chosen.track(frames, "red", fps=10).tracks[0].valid.all()


def test_an_adapted_model_is_decoded_fast_with_its_adapter():
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    adapted = get_peft_model(tiny_model(), LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    processor = tiny_processor(allow_absent=False)
    fast, reference = (
        Tracker(adapted.eval(), processor, decoding=decoding).track(noise(5), box_xyxy_px=BOXES[0], fps=10)
        for decoding in ("fast", "reference")
    )
    assert_same(fast, reference)


def test_an_unknown_decoding_is_refused():
    with pytest.raises(ValueError, match="decoding must be one of fast, reference, plain, got 'quick'"):
        Tracker(tiny_model(), tiny_processor(), decoding="quick")


@pytest.mark.parametrize("decoding", ["fast", "reference"])
def test_the_command_passes_the_decoding_on(decoding, tmp_path, monkeypatch):
    from elysium import cli, track_command

    with VideoWriter(tmp_path / "noise.mp4", fps=10, width=64, height=48) as writer:
        for frame in noise(3):
            writer.write(frame)
    asked = []

    def load(model, device, decoding):
        asked.append(decoding)
        return tracker(decoding)

    monkeypatch.setattr(track_command, "load_tracker", load)
    arguments = ["track", str(tmp_path / "noise.mp4"), "--box", "2,4,30,40", "--json", "--decoding", decoding]
    assert CliRunner().invoke(cli.app, arguments).exit_code == 0
    assert asked == [decoding]


# --- decoding a video while the model is at work ---
def frames_until(count, error=None):
    for index in range(count):
        yield Frame(index, index / 10, noise(1)[0])
    if error is not None:
        raise error


def test_a_decoding_thread_gives_every_frame_in_order_and_ends():
    decoding = decode_ahead(frames_until(50))
    assert [frame.index for frame in decoding] == list(range(50))
    assert next(decoding, None) is None


def test_what_a_decoder_raises_is_raised_behind_the_frames_before_it():
    decoding = decode_ahead(frames_until(3, OSError("broken")))
    assert [next(decoding).index for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match="broken"):
        next(decoding)
    assert next(decoding, None) is None


@pytest.mark.parametrize("left", ["closed", "dropped"])
def test_a_decoding_thread_that_is_left_early_ends(left):
    before = set(threading.enumerate())
    decoding = decode_ahead(frames_until(10_000), depth=2)
    next(decoding)
    (thread,) = [thread for thread in threading.enumerate() if thread not in before]
    if left == "closed":
        decoding.close()
        assert next(decoding, None) is None
    else:
        del decoding
    thread.join(timeout=5)
    assert not thread.is_alive()
