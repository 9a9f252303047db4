"""The arithmetic of `research/curation_study/jobs.py`, and its detector."""

import json
from pathlib import Path

import numpy as np

from elysium.curation.detect_step import Query
from research.curation_study.jobs import (
    FRAMES,
    GPU_FLOPS,
    GPU_SHARE,
    YIELD,
    TrueBoxes,
    extrapolate,
    table,
    write_real,
)


def test_ten_million_videos_cost_what_one_costs_ten_million_times() -> None:
    captions = {"seconds_a_caption": 0.0036, "phrases_a_caption": 2.0}
    real = {
        "seconds": {"decode": 20.0, "track": 100.0},
        "frames_decoded": 2000,  # 10 ms a frame
        "frames_of_rows": 500,
        "steps": [{"step": "track", "in": 4}, {"step": "agree", "out": 2}],  # 1000 frames tracked, 100 ms each
        "bytes_a_frame": {"jsonl": 20_000},
    }
    found = extrapolate(captions, real, flops=1e12)
    assert found["noun phrases"] == {"core_hours": 10}  # 0.0036 s x 10M / 3600
    assert found["frames"] == {"core_hours": round(0.01 * FRAMES * 1e7 / 3600)}
    assert found["detection"]["pictures"] == 60_000_000
    assert found["detection"]["gpu_hours"] == round(6e7 * 1e12 / (GPU_FLOPS * GPU_SHARE) / 3600)
    assert found["trajectories, at the paper's yield"] == {"core_hours": round(0.1 * FRAMES * YIELD * 1e7 / 3600)}
    assert found["trajectories, of every phrase"] == {"core_hours": round(0.1 * FRAMES * 2 * 1e7 / 3600)}
    assert found["rows as jsonl, at the paper's yield"] == {
        "terabytes": round(20_000 * FRAMES * YIELD * 1e7 / 1e12, 1)
    }
    assert "| noun phrases | 10 | | |" in " ".join(table(found).split())


def test_the_real_clips_have_a_caption_each_and_their_boxes_lie_in_the_picture(tmp_path: Path) -> None:
    write_real(tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "videos" / "captions.jsonl").read_text("utf-8").splitlines()]
    assert len(lines) == 8 and all(Path(line["video"]).is_file() for line in lines)
    truth = json.loads((tmp_path / "truth.json").read_text("utf-8"))
    boxes = np.array([box for boxes in truth.values() for box in boxes if box is not None])
    assert len(truth) == 6 and boxes.min() >= 0 and boxes.max() <= 1
    picture = np.zeros((4, 4, 3), np.uint8)
    known, unknown = TrueBoxes(str(tmp_path / "truth.json")).detect(
        [Query("cup", 3, "black cup", picture), Query("cup", 3, "red cup", picture)]
    )
    assert [one.box_xyxy_norm for one in known] == [tuple(truth["cup/black cup"][3])] and unknown == []
