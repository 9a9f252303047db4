"""The model beside OpenCV's trackers and the first box repeated, on held-out scenes of sprites and on real clips.

    python -m research.tracking_table.run --bank sprites.npz --output research/results/tracking_table.json \\
        --peers-cache peers.json
    python -m research.tracking_table.run --bank sprites.npz --model runs/tiny_words --selection

Groups of scenes (`tracking_table_clips.py`), 320x240 and 48 frames by default: classes that were taught, by cut-outs
that were held out; classes that were never taught; cut-outs that were learned from, in new scenes; small objects;
objects behind others; another object of the class in the picture; objects that leave and come back. Real clips, with
boxes that no tracker made, are tracked from frame 1 to their end (tests/fixtures/real_clips). Every tracker sees
frames of the clip's own size and is scored alike: mean IoU and success AUC over the frames from 2 on in which the
object can be seen, 0 without a box, and the bootstrap's 95% interval over clips. Of the model, too: out of the frames
without the object those that it marks absent, and out of the others those that it marks absent wrongly.

By words only clips count whose target has an expression. MIL draws by the clock: its tracks differ from run to run, by
much on a single clip; `--peers-cache` keeps one. METEOR is nltk's, by which one right word gets 50. `--selection` is
for choosing checkpoints: other real clips and other scenes, no peers, and one line of JSON. The last line is JSON.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from benchmarks.bench import markdown_table
from elysium.evaluation.captioning import CaptionScorer
from elysium.processing.atomic_files import atomic_path
from elysium.tracking.checkpoints import DEFAULT_MODEL
from elysium.tracking.options import DEFAULTS, TrackingOptions
from research.eval_v1.report import versions
from research.eval_v1.run import device_name
from research.scenes.sprite_bank import SpriteBank, everyday_names
from research.tracking_table.clips import GROUPS, WORLD_SEEDS, Clip, ClipMaker, real_clips
from research.tracking_table.scores import (
    BY_WORDS,
    FIRST_BOX,
    PEERS,
    RSOT,
    RSOT_ZOOM,
    SOT,
    SOT_ZOOM,
    Figures,
    FollowedClip,
    PeerTracks,
    follow_ours,
    follow_peer,
    score_track,
    summarise,
    word_figures,
)
from research.tracking_table.sheets import save_sheet

if TYPE_CHECKING:
    from elysium.tracking.tracker import Tracker

OURS = (SOT, SOT_ZOOM, RSOT, RSOT_ZOOM)
WORD_GROUPS = ("seen", "unseen", "taught")
NUMBERS = {"headline": 40, "selection": 8}
Followed = dict[str, list[FollowedClip | None]]


class Measurement:
    """Follows clips by the model and its peers, and scores them.

    Args:
        tracker: the model.
        peers: tracks of OpenCV's trackers.
        names: of the peers to measure.
        options: how the model tracks.
    """

    def __init__(
        self,
        tracker: "Tracker",
        peers: PeerTracks,
        names: Sequence[str],
        options: TrackingOptions | None = None,
    ) -> None:
        self.tracker, self.peers, self.names = tracker, peers, names
        self.options = options or TrackingOptions()

    def follow(self, clips: Sequence[Clip]) -> Followed:
        """Tracks of each tracker, one for each clip; None where a clip has no words or a tracker refuses it."""
        followed: Followed = {}
        for way in OURS:
            able = [way not in BY_WORDS or clip.words is not None for clip in clips]
            asked = [clip for clip, is_able in zip(clips, able, strict=True) if is_able]
            tracks = iter(follow_ours(self.tracker, asked, way, self.options))
            followed[way] = [next(tracks) if is_able else None for is_able in able]
        for name in self.names:
            followed[name] = [follow_peer(self.peers, name, clip) for clip in clips]
        self.peers.save()
        return followed

    @staticmethod
    def score(clips: Sequence[Clip], followed: Followed) -> dict[str, Figures]:
        """Figures of each tracker that followed any of the clips."""
        figures = {}
        for name, tracks in followed.items():
            pairs = zip(clips, tracks, strict=True)
            scores = [score_track(clip, track) for clip, track in pairs if track is not None]
            if scores:
                figures[name] = summarise(scores, marks_absent=name in OURS)
        return figures


def measure_groups(
    measurement: Measurement, maker: ClipMaker, number: int, scorer: CaptionScorer | None
) -> tuple[dict[str, dict[str, Figures]], dict[str, Figures]]:
    """Figures of each group, and the model's words in some of them."""
    groups, words = {}, {}
    for name in GROUPS:
        start_s = time.perf_counter()
        clips = maker.clips(name, number)
        groups[name] = measurement.score(clips, measurement.follow(clips))
        if name in WORD_GROUPS:
            words[name] = word_figures(measurement.tracker, clips, scorer)
        tell(f"{name}: {number} clips in {time.perf_counter() - start_s:.0f} s")
    return groups, words


def measure_real(
    measurement: Measurement, clips: Sequence[Clip], pictures: Path | None
) -> dict[str, dict[str, Figures]]:
    """Figures of each real clip, and of their mean where every one has the figure."""
    found: dict[str, dict[str, Figures]] = {}
    for clip in clips:
        start_s = time.perf_counter()
        followed = measurement.follow([clip])
        found[clip.name] = measurement.score([clip], followed)
        shown = {name: tracks[0] for name, tracks in followed.items() if name in (SOT, PEERS["csrt"])}
        if pictures is not None:
            save_sheet(clip, {name: track for name, track in shown.items() if track}, pictures / f"{clip.name}.png")
        tell(f"{clip.name}: {len(clip.video)} frames in {time.perf_counter() - start_s:.0f} s")
    names = [name for name in measurement_names(found) if all(name in row for row in found.values())]
    mean = {
        name: {
            key: round(float(np.mean([row[name][key] for row in found.values()])), 4) for key in ("mean_iou", "auc")
        }
        for name in names
    }
    return found | {"mean": mean}


def measurement_names(rows: dict[str, dict[str, Figures]]) -> list[str]:
    """The trackers of any of the rows, in order."""
    return list(dict.fromkeys(name for row in rows.values() for name in row))


def tell(line: str) -> None:
    """Says how far it is, beside the results."""
    print(line, file=sys.stderr, flush=True)


def markdown(record: Figures) -> str:
    """The tables of a record."""
    width, height = record["size"]
    about = (
        f"`{record['model']}`, {record['clips_of_each_group']} clips of {record['frames']} frames in each group, "
        f"{width}x{height}, windows of {record['window_frames']}, bank of {record['cut_outs']} cut-outs; "
        f"{record['hardware']}."
    )
    titles = [group.title for group in GROUPS.values()]
    headline, selection = record["real"]["headline"], record["real"]["selection"]
    names = measurement_names(record["groups"])
    blocks = [
        "# Tracking table",
        about,
        "Mean IoU (95% interval over clips); real: the mean of the headline clips. By words: clips that have any.",
        markdown_table(
            ["tracker", *titles, "real"],
            [
                [
                    name,
                    *(interval(record["groups"][group].get(name)) for group in GROUPS),
                    shown(headline["mean"], name),
                ]
                for name in names
            ],
        ),
        "Success AUC, and of the model: share of frames without the object that it marks absent / share of the others "
        "that it marks absent wrongly.",
        markdown_table(
            ["tracker", *titles],
            [[name, *(details(record["groups"][group].get(name)) for group in GROUPS)] for name in names],
        ),
        "Real clips, mean IoU / success AUC. Those for selection choose checkpoints, and are no result.",
        markdown_table(
            ["tracker", *headline, *(f"{clip} (selection)" for clip in selection)],
            [
                [name, *(shown(row, name, "auc") for row in (*headline.values(), *selection.values()))]
                for name in names
            ],
        ),
        "Words, in percent. Questions: beside it, what the usual answer to such a question gets.",
        markdown_table(
            list(WORD_COLUMNS), [word_cells(GROUPS[name].title, row) for name, row in record["words"].items()]
        ),
    ]
    return "\n\n".join(blocks) + "\n"


WORD_COLUMNS = (
    "group",
    "clips (names)",
    "REC at IoU 0.5",
    "REG exact",
    "REG METEOR",
    "Video-REG exact",
    "Video-REG METEOR",
    "questions right",
    "questions",
)


def word_cells(title: str, row: Figures) -> list[str]:
    """One line of the table of words."""
    keys = ("rec_at_0.5", "reg_exact", "reg_meteor", "video_reg_exact", "video_reg_meteor")
    figures = [f"{row[key]:.1f}" if key in row else "-" for key in keys]
    right = "-" if row["qa"] is None else f"{row['qa']:.1f} ({row['qa_usual']:.1f})"
    return [title, f"{row['clips']} ({row['names']})", *figures, right, str(row["questions"])]


def interval(figures: Figures | None) -> str:
    """Mean IoU with its interval."""
    if figures is None:
        return "-"
    bounds = figures["interval_95"]
    return f"{figures['mean_iou']:.3f}" + (f" ({bounds[0]:.2f}-{bounds[1]:.2f})" if bounds else "")


def details(figures: Figures | None) -> str:
    """AUC, and the shares of frames marked absent rightly and wrongly."""
    if figures is None:
        return "-"
    shares = [figures[key] for key in ("absent_found", "falsely_absent") if key in figures]
    said = "; " + " / ".join("-" if share is None else f"{100 * share:.0f}%" for share in shares) if shares else ""
    return f"{figures['auc']:.3f}{said}"


def shown(row: dict[str, Figures], name: str, *more: str) -> str:
    """Mean IoU of a tracker on a real clip, and further figures."""
    return " / ".join(f"{row[name][key]:.3f}" for key in ("mean_iou", *more)) if name in row else "-"


def selection_line(record: Figures) -> Figures:
    """The few figures that choose a checkpoint: mean IoU on real clips, and over the groups; shares in percent."""
    groups, real = record["groups"], record["real"]["selection"]

    def over_groups(name: str) -> float:
        return round(float(np.mean([row[name]["mean_iou"] for row in groups.values() if name in row])), 4)

    words = record["words"].values()
    asked = [row["qa"] for row in words if row["qa"] is not None]
    return {
        "model": record["model"],
        **{f"real: {name}": real["mean"][name]["mean_iou"] for name in OURS},
        **{f"groups: {name}": over_groups(name) for name in OURS},
        **{f"{group}: {SOT}": row[SOT]["mean_iou"] for group, row in groups.items()},
        "rec": round(float(np.mean([row["rec_at_0.5"] for row in words])), 2),
        "reg": round(float(np.mean([row["reg_exact"] for row in words])), 2),
        "qa": round(float(np.mean(asked)), 2) if asked else None,
    }


def caption_scorer() -> CaptionScorer | None:
    """What scores METEOR; None, and a line that says so, where there is no dictionary."""
    try:
        return CaptionScorer()
    except ValueError as error:
        tell(f"METEOR is left out: {error}")
        return None


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Checked arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bank", type=Path, required=True, help="sprites, an .npz file of fetch_sprites")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="checkpoint folder, shipped name or Hub id")
    parser.add_argument("--device", help="such as cpu or cuda (default: the first GPU where there is one)")
    parser.add_argument("--batch-size", type=int, default=8, help="windows that the model answers at once")
    parser.add_argument("--number", type=int, help="clips of each group (default: 40; 8 for --selection)")
    parser.add_argument("--frames", type=int, default=48, help="of each clip of a group")
    parser.add_argument(
        "--window-frames", type=int, default=DEFAULTS.window_frames, help="frames that the model sees at once"
    )
    parser.add_argument("--reground", action="store_true", help="ask by words in every window")
    parser.add_argument("--size", type=int, nargs=2, default=(320, 240), metavar=("W", "H"), help="of those frames")
    parser.add_argument("--seed", type=int, help="of the worlds that scenes are drawn from")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS), help="of OpenCV's trackers")
    parser.add_argument("--peers-cache", type=Path, help="JSON that keeps their tracks from one model to the next")
    parser.add_argument("--selection", action="store_true", help="only what chooses checkpoints, in one line")
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="contact sheets of the real clips")
    parser.add_argument("--output", type=Path, help="JSON to write, and beside it the tables as .md")
    arguments = parser.parse_args(argv)
    for name, least in (("number", 1), ("frames", 2), ("window_frames", 2)):
        value = getattr(arguments, name)
        if value is not None and value < least:
            parser.error(f"--{name.replace('_', '-')} must be {least} or more, got {value}")
    return arguments


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, prints the tables and writes the figures."""
    arguments = parse_arguments(argv)
    from elysium.tracking.tracker import Tracker  # slow to import, and the arguments are checked first

    cv2.setNumThreads(1)
    split = "selection" if arguments.selection else "headline"
    seed = WORLD_SEEDS[split] if arguments.seed is None else arguments.seed
    number = arguments.number or NUMBERS[split]
    bank = SpriteBank.load(arguments.bank)
    width, height = arguments.size
    maker = ClipMaker(bank, seed, num_frames=arguments.frames, width=width, height=height, names=everyday_names())
    tracker = Tracker.from_pretrained(arguments.model, device=arguments.device, batch_size=arguments.batch_size)
    names = [] if arguments.selection else [*(PEERS[name] for name in arguments.peers), FIRST_BOX]
    options = TrackingOptions(window_frames=arguments.window_frames, reground=arguments.reground)
    measurement = Measurement(tracker, PeerTracks(arguments.peers_cache), names, options)
    if arguments.pictures is not None:
        arguments.pictures.mkdir(parents=True, exist_ok=True)
    splits = ("selection",) if arguments.selection else ("headline", "selection")
    real = {part: measure_real(measurement, real_clips(part), arguments.pictures) for part in splits}
    scorer = None if arguments.selection else caption_scorer()
    groups, words = measure_groups(measurement, maker, number, scorer)
    record: Figures = {
        "benchmark": "tracking_table",
        "model": arguments.model,
        "trained_on": tracker.trained_on,
        "split": split,
        "seed": seed,
        "clips_of_each_group": number,
        "frames": arguments.frames,
        "window_frames": options.window_frames,
        "reground": options.reground,
        "size": list(arguments.size),
        "cut_outs": len(bank.keys),
        "groups": groups,
        "real": real,
        "words": words,
        "hardware": device_name(tracker),
        "versions": versions(),
    }
    tables = None if arguments.selection else markdown(record)
    if arguments.output is not None:
        with atomic_path(arguments.output) as unfinished:
            unfinished.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        if tables is not None:
            with atomic_path(arguments.output.with_suffix(".md")) as unfinished:
                unfinished.write_text(tables, encoding="utf-8")
    if tables is not None:
        print(tables)
    print(json.dumps(selection_line(record) if arguments.selection else record))


if __name__ == "__main__":
    main()
