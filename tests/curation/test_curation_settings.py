"""Recipes and what is typed over them."""

from functools import partial
from pathlib import Path

import pytest

from elysium.curation.curation_settings import CurationSettings, load_settings, part_name
from elysium.processing.data_files import DatasetError


def test_the_defaults_are_the_papers_thresholds() -> None:
    settings = load_settings()
    assert (settings.min_detection_score, settings.min_track_score, settings.min_agreement_iou) == (0.6, 0.8, 0.3)
    assert settings.detector == "IDEA-Research/grounding-dino-base"


def test_what_is_typed_stands_over_the_recipe_and_none_leaves_it(tmp_path: Path) -> None:
    recipe = tmp_path / "own.yaml"
    recipe.write_text("min_track_score: 0.5\ntracker: kcf\n")
    settings = load_settings(recipe, {"tracker": "mosse", "min_track_score": None})
    assert (settings.tracker, settings.min_track_score) == ("mosse", 0.5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("min_score: 1", "must hold only .*, got min_score"),
        ("- a", "must be NAME: VALUE a line, got list"),
        ("a: [", "must be plain YAML"),
        ("min_track_score: high", "min_track_score must be a number in 0..1, got 'high'"),
        ("min_track_score: 1.5", "in 0..1, got 1.5"),
        ("max_frames: 2", "max_frames must be a whole number 3 or more, got 2"),
        ("max_frames: 8.5", "must be a whole number"),
        ("chunk_videos: true", "chunk_videos must be a whole number 1 or more, got True"),
        ("format: csv", "format must be one of jsonl, parquet, got 'csv'"),
    ],
)
def test_a_recipe_that_cannot_be_meant_is_refused_with_its_value(text: str, said: str, tmp_path: Path) -> None:
    recipe = tmp_path / "own.yaml"
    recipe.write_text(text)
    with pytest.raises(DatasetError, match=said):
        load_settings(recipe)


def test_a_missing_recipe_is_named() -> None:
    with pytest.raises(DatasetError, match="must be a file that can be read, got papers"):
        load_settings("papers")


def test_a_part_given_as_a_function_has_the_same_name_in_every_process() -> None:
    settings = CurationSettings(detector=partial(Path, "truth.json"), tracker=Path.cwd)
    assert settings.to_dict()["detector"] == "pathlib:Path(truth.json)"
    assert settings.to_dict()["tracker"] == "pathlib:Path.cwd"
    assert "0x" not in part_name(partial(part_name, number=3))
