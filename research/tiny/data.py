"""Training batches of elysium-tiny: scenes rendered on the fly, several questions to each, all on one visual prefix.

Item i of the data set is a whole batch and depends on (seed, i) alone, so that a resumed run sees the same batches.
Letters: B clips, T frames, O tracked objects, N patches, Q questions a clip, L tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from elysium.processing.boxes_elysium import ABSENT_TEXT, format_box, format_frames
from elysium.processing.processing_elysium import ElysiumProcessor
from elysium.processing.prompts.phrasings import load_phrasings
from elysium.training.synthetic import RenderedClip, referring_expressions
from research.scenes.questions import scene_questions
from research.scenes.sprite_bank import SpriteBank, everyday_names
from research.scenes.sprite_world import SpriteWorld
from research.scenes.views import render_view, shown_frames
from research.scenes.world import StudyConfig, StudyScene, StudyWorld
from research.semantic.simulated_evidence import AssumedClass, ClassPainter, EvidencePool, detailed, simulate_evidence
from research.tiny.crops import LookConfig, following_view, soften

MAX_OBJECTS = 8
IGNORE = -100
# Of the questions of tracking on a clip whose view follows an object, those about it.
_SHARE_FOLLOWED = 0.7
_VIEW_ASPECTS = (1.0, 4 / 3, 4 / 3, 16 / 9, 3 / 4)


@dataclass(frozen=True, kw_only=True)
class QuestionMix:
    """Which questions are asked on a clip.

    image, frame, clip: tasks where the frames are one picture, a video of one frame, a longer one. glimpses: further
    short questions on the latter, whose answers start at any frame, so that there are no earlier boxes to repeat.
    absent_names: share of the questions by words on a video that name nothing in it.
    """

    image: tuple[str, ...] = ("rec", "rec", "reg", "reg", "video_qa")
    frame: tuple[str, ...] = ("sot", "sot", "rsot", "video_reg", "video_reg")
    clip: tuple[str, ...] = ("sot", "sot", "rsot", "rsot", "video_reg", "video_qa")
    glimpses: tuple[str, ...] = ()
    absent_names: float = 0.08


QUESTION_MIXES = {
    "even": QuestionMix(),
    "glimpses": QuestionMix(
        clip=("sot", "rsot", "video_reg", "video_reg", "video_qa"), glimpses=("sot",) * 3 + ("rsot",) * 2
    ),
    "places": QuestionMix(
        image=("rec",) * 5 + ("reg", "reg", "video_qa"),
        frame=("sot",) + ("rsot",) * 4 + ("video_reg",),
        clip=("sot", "rsot", "video_reg", "video_qa"),
        glimpses=("sot",) * 2 + ("rsot",) * 4,
        absent_names=0.05,
    ),
    "finds": QuestionMix(
        image=("rec",) * 4 + ("reg",) * 4 + ("video_qa",),
        frame=("sot",) + ("rsot",) * 5 + ("video_reg",) * 2,
        clip=("sot", "sot", "rsot", "video_reg", "video_qa"),
        glimpses=("sot",) * 4 + ("rsot",) * 3,
        absent_names=0.1,
    ),
    "finds_then_boxes": QuestionMix(
        image=("rec",) * 4 + ("reg",) * 4 + ("video_qa",),
        frame=("sot",) + ("rsot",) * 5 + ("video_reg",) * 2,
        clip=("sot",) * 3 + ("video_reg", "video_qa"),
        glimpses=("sot",) * 6 + ("rsot",),
        absent_names=0.1,
    ),
    "tracks": QuestionMix(
        image=("rec",) * 5 + ("reg", "reg", "video_qa"),
        frame=("sot",) * 2 + ("rsot",) * 3 + ("video_reg",),
        clip=("sot", "sot", "rsot", "video_reg", "video_qa"),
        glimpses=("sot",) * 4 + ("rsot",) * 3,
        absent_names=0.01,
    ),
}


@dataclass(frozen=True)
class Question:
    """One question on a clip: its texts and the object it is about (-1 for none).

    history is the answer as the model reads it while it learns to write `answer`: equal to it, or with other
    coordinates (see `BatchPlan.wrong_histories`); both have the same number of tokens. glimpse is the frame
    that the answer starts at, its number given and not learnt, without those before it (see `QuestionMix.glimpses`).
    """

    question: str
    answer: str
    object_index: int
    history: str | None = None
    glimpse: int | None = None


@dataclass(frozen=True, eq=False)
class Shown:
    """A scene, its clip, a name that fits nothing in it, the tracked object that the view follows, if any, the
    deviation of boxes in questions about it, in box sizes, and the class that each tracked object is assumed to be."""

    scene: StudyScene
    clip: RenderedClip
    absent_name: str | None
    followed: int | None = None
    box_jitter: float = 0.0
    classes: tuple[AssumedClass | None, ...] = ()

    def name_of(self, index: int) -> str | None:
        """What a tracked object is called, such as "reddish tiger"; None for one without a name."""
        item = self.scene.objects[self.scene.tracked[index]]
        known = self.classes[index] if self.classes else None
        if known is None or item.sprite.kind is None:
            return item.name
        if item.sprite.colour is None:
            return known.name
        return f"{known.name} in {item.sprite.colour}" if known.is_person else item.name


def _shifted(box: np.ndarray, deviation: float, rng: np.random.Generator) -> np.ndarray:
    """Half of the boxes in questions are a little off, so that the model looks instead of copying."""
    return box if rng.random() < 0.5 else _moved(box, deviation, rng)


def _moved(box: np.ndarray, deviation: float, rng: np.random.Generator) -> np.ndarray:
    extent = np.tile(box[2:] - box[:2], 2)
    moved = np.clip(box + extent * rng.normal(0, deviation, 4), 0, 1)
    return moved if (moved[2:] - moved[:2]).min() > 0.02 else box


def wrong_history(
    boxes: list[np.ndarray | None], clip: RenderedClip, chosen: int, rng: np.random.Generator
) -> list[np.ndarray | None]:
    """The boxes of an answer as a model that errs would have written them, absent where they are absent.

    They stay where they were some frames ago, are far off, are off in half of the frames, or become another's.
    """
    wrong, kind = list(boxes), rng.random()
    frames = [t for t, box in enumerate(boxes) if box is not None]
    start = int(rng.integers(0, len(boxes)))
    other = int(rng.integers(clip.visible.shape[1]))
    kept = None
    for t in frames:
        if kind < 0.45:
            kept = boxes[t] if kept is None or t <= start // 2 else kept
            wrong[t] = kept
        elif kind < 0.7:
            shift = np.clip(rng.normal(0, 0.2, 2), -boxes[t][:2], 1 - boxes[t][2:])
            wrong[t] = _moved(boxes[t] + np.tile(shift, 2), 0.15, rng)
        elif kind < 0.85:
            wrong[t] = _moved(boxes[t], 0.3, rng) if rng.random() < 0.5 else boxes[t]
        elif t >= start and other != chosen and clip.visible[t, other]:
            wrong[t] = clip.boxes_xyxy_norm[t, other]
    return wrong


@dataclass(frozen=True, kw_only=True)
class EvidencePlan:
    """How the semantic encoders' evidence comes into training.

    share: of the batches, those with evidence, or of those of T frames; the others are encoded as tracking from a box
    encodes frames.
    share_real: of those with one frame a clip, the ones that the encoders themselves read, so that only true names are
    asked for; elsewhere it is simulated. share_painted: of the objects without a name, those that are assumed to be of
    a class. share_faint: of these, in single frames, those that only the evidence shows, so that it is
    read: in photographs it knows better than the tower where things end. share_foreign: of single frames with
    simulated evidence, those that show another scene, so that only the evidence tells. pool: evidence of backgrounds,
    of `evidence_pool`.
    """

    pool: str | Path
    share: float | dict[int, float] = 0.75
    share_real: float = 0.2
    share_painted: float = 0.7
    share_faint: float = 0.0
    share_foreign: float = 0.0


@dataclass(frozen=True, kw_only=True)
class BatchPlan:
    """Which clips a stage trains on.

    frames: choices of T with weights; clips_per_batch: B for each T. box_jitter: deviation of boxes in questions, in
    box sizes, by the step from which it holds. wrong_histories: share of the answers of tracking whose earlier boxes
    are read wrong while the labels stay true: a model that only ever reads true earlier boxes learns to repeat them.
    questions: a name of `QUESTION_MIXES`; "places" asks above all where the thing is that words name. worlds: the
    share of scenes of each world, "shapes" or "sprites"; bank: cut-outs of the latter, an `.npz` of `fetch_sprites` or
    several files, such as `[runs/sprites.npz, runs/renders.npz]`. looks: of the clips, which follow an object, and
    which have their first frame further back. everyday_names: teaches the bank's names of everyday things alone;
    others' cut-outs are things without a name.
    """

    frames: dict[int, float]
    clips_per_batch: dict[int, int]
    scene: StudyConfig
    box_jitter: dict[int, float] = field(default_factory=lambda: {0: 0.08})
    wrong_histories: float = 0.0
    questions: str = "even"
    looks: LookConfig = field(default_factory=LookConfig)
    share_other_phrasings: float = 0.2
    share_fine: float = 0.3
    worlds: dict[str, float] = field(default_factory=lambda: {"shapes": 1.0})
    bank: str | Path | Sequence[str | Path] | None = None
    everyday_names: bool = False
    evidence: EvidencePlan | None = None

    def question_mix(self) -> QuestionMix:
        """The questions of the plan.

        Raises:
            ValueError: a mix of another name.
        """
        if self.questions not in QUESTION_MIXES:
            raise ValueError(f"questions must be one of {', '.join(QUESTION_MIXES)}, got {self.questions!r}")
        return QUESTION_MIXES[self.questions]

    def box_jitter_at(self, step: int) -> float:
        """The deviation of boxes in questions at a step, counted from 0.

        Raises:
            ValueError: none holds yet.
        """
        begun = [first for first in self.box_jitter if first <= step]
        if not begun:
            raise ValueError(f"box_jitter must hold from step 0, got {self.box_jitter}; begin with `0: DEVIATION`")
        return self.box_jitter[max(begun)]

    def build_worlds(self, seed: int) -> list[StudyWorld]:
        """The worlds, in the order of their shares.

        Raises:
            ValueError: a world of another name, or sprites without a bank.
        """
        unknown = set(self.worlds) - {"shapes", "sprites"}
        if unknown:
            raise ValueError(f"worlds must be shapes or sprites, got {', '.join(sorted(unknown))}")
        if "sprites" in self.worlds and self.bank is None:
            raise ValueError("the world of sprites needs a bank, got none; give `bank`, an .npz file of fetch_sprites")
        names = everyday_names() if self.everyday_names else None
        makers = {"shapes": StudyWorld, "sprites": lambda s: SpriteWorld(SpriteBank.load(self.bank), s, names=names)}
        return [makers[name](seed) for name in self.worlds]


class TinyBatches(Dataset):
    """Map-style data set of whole batches.

    Args:
        processor: gives prefix, question phrasing and tokenizer, so that training reads what inference asks.
        worlds: of the plan, in its order (`BatchPlan.build_worlds`).
        ranks: processes that train together; batches i*ranks .. i*ranks+ranks-1 have the same T.
    """

    def __init__(
        self,
        processor: ElysiumProcessor,
        plan: BatchPlan,
        worlds: Sequence[StudyWorld],
        *,
        num_batches: int,
        seed: int,
        ranks: int,
        image_size: int,
        patch_size: int,
    ):
        self.processor, self.plan, self.mix = processor, plan, plan.question_mix()
        self.num_batches, self.seed, self.ranks, self.image_size = num_batches, seed, ranks, image_size
        self.phrasings = load_phrasings()
        self.worlds = worlds
        self.shares = np.array(list(plan.worlds.values())) / sum(plan.worlds.values())
        self.colours = list(dict.fromkeys(word for world in self.worlds for word in world.colours))
        self.kinds = list(dict.fromkeys(word for world in self.worlds for word in world.kinds))
        self._colour_number = {word: number for number, word in enumerate(self.colours)}
        self._kind_number = {word: number for number, word in enumerate(self.kinds)}
        self.patches = image_size // patch_size
        self.painter = None if plan.evidence is None else ClassPainter(plan.evidence.share_painted)
        self.pool = None if plan.evidence is None else EvidencePool.load(plan.evidence.pool)

    def __len__(self) -> int:
        return self.num_batches

    def __getitem__(self, index: int) -> dict[str, Any]:
        shared = np.random.default_rng((self.seed, 11, index // self.ranks))
        choices = list(self.plan.frames)
        num_frames = int(shared.choice(choices, p=np.array(list(self.plan.frames.values()))))
        as_image = num_frames == 1 and bool(shared.random() < 0.6)
        rng = np.random.default_rng((self.seed, 12, index))
        count = self.plan.clips_per_batch[num_frames]
        box_jitter = self.plan.box_jitter_at(index // self.ranks)
        evidence = self._evidence_of_batch(num_frames, shared)
        if evidence == "real":
            count = (count + 1) // 2  # the encoders take as long as a step
        clips = []
        for position in range(count):
            world = self.worlds[rng.choice(len(self.worlds), p=self.shares)]
            scene = world.sample(index * 1000 + position, self.plan.scene)
            absent_name, classes = world.absent_name(scene, rng), []
            if evidence == "simulated":
                assert self.painter is not None
                faint = self.plan.evidence.share_faint if num_frames == 1 and self.plan.evidence else 0.0
                classes = self.painter.paint(scene, rng, share_faint=faint)
                taken = [item.sprite.kind for item in scene.objects if item.sprite.kind]
                absent_name = self.painter.absent_phrase(classes, taken, rng) or absent_name
            clip, followed = self._render(scene, num_frames, rng, large=evidence == "real")
            clips.append(Shown(scene, clip, absent_name, followed, box_jitter, tuple(classes)))
        frames = np.concatenate([shown.clip.frames for shown in clips])
        if evidence == "simulated" and num_frames == 1 and self.plan.evidence:
            foreign = np.flatnonzero(rng.random(count) < self.plan.evidence.share_foreign)
            frames[foreign] = frames[foreign - 1].copy()
        batch = {
            "frames": torch.from_numpy(frames),
            **self._object_tensors(clips, num_frames),
        }
        if evidence == "simulated":
            batch["evidence"] = self._simulate(clips, batch["coverage"].numpy(), rng)
        return batch | self._question_tensors(clips, num_frames, as_image, rng)

    def _evidence_of_batch(self, num_frames: int, rng: np.random.Generator) -> str | None:
        plan = self.plan.evidence
        if plan is None:
            return None
        share = plan.share[num_frames] if isinstance(plan.share, dict) else plan.share
        if rng.random() >= share:
            return None
        return "real" if num_frames == 1 and rng.random() < plan.share_real else "simulated"

    def _simulate(
        self, clips: list[Shown], coverage: np.ndarray, rng: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Scores, boxes and box scores of all frames of a batch, flattened."""
        assert self.pool is not None
        parts = [
            simulate_evidence(list(shown.classes), shown.clip, coverage[b][:, : len(shown.classes)], self.pool, rng)
            for b, shown in enumerate(clips)
        ]
        scores, boxes, box_scores = (torch.from_numpy(np.concatenate(part)) for part in zip(*parts, strict=True))
        return scores, boxes, box_scores

    def _question_tensors(
        self, clips: list[Shown], num_frames: int, as_image: bool, rng: np.random.Generator
    ) -> dict[str, Any]:
        tasks = self.mix.image if as_image else self.mix.frame if num_frames == 1 else self.mix.clip
        glimpses = self.mix.glimpses if num_frames > 1 else ()
        # One phrasing a task and batch: rows of like length, little padding.
        templates = {task: self._template(task, rng) for task in sorted({*tasks, *glimpses})}
        is_short = [task in ("reg", "video_reg", "video_qa") for task in tasks]
        long_questions, short_questions, glimpse_questions = [], [], []
        for shown in clips:
            turn = int(rng.integers(0, 1000))  # questions go round the objects, so that few are asked about twice
            questions = [self._ask(task, templates[task], turn + n, shown, rng) for n, task in enumerate(tasks)]
            long_questions.append([q for q, short in zip(questions, is_short, strict=True) if not short])
            short_questions.append([q for q, short in zip(questions, is_short, strict=True) if short])
            glimpse_questions.append(
                [self._glimpse(task, templates[task], turn + n, shown, rng) for n, task in enumerate(glimpses)]
            )
        groups = {
            "prefix_ids": torch.tensor(self._prefix(num_frames, as_image)),
            "boxes_group": self._encode(long_questions),
            "words_group": self._encode(short_questions),
        }
        return groups | {"glimpses_group": self._encode(glimpse_questions)} if glimpses else groups

    def _render(
        self, scene: StudyScene, num_frames: int, rng: np.random.Generator, *, large: bool = False
    ) -> tuple[RenderedClip, int | None]:
        """A clip of a scene, and which object its view follows; large ones are drawn for the semantic encoders."""
        size, looks = self.image_size, self.plan.looks
        aspect, first = float(rng.choice(_VIEW_ASPECTS)), int(rng.integers(0, 40))
        gap, view, followed = 0, None, None
        if looks.share_gaps and num_frames > 1 and rng.random() < looks.share_gaps:
            gap = int(rng.integers(looks.gap[0], looks.gap[1] + 1))
        if looks.share and scene.tracked and rng.random() < looks.share:
            aspect, followed = 1.0, int(rng.integers(len(scene.tracked)))
            numbers = shown_frames(scene, num_frames, first, gap)
            view = following_view(scene, followed, numbers, looks, rng)
        render = partial(render_view, scene, num_frames, first_frame=first, gap=gap, aspect=aspect, view=view)
        if large:
            clip = render((2 * size, 2 * size))
        elif rng.random() >= self.plan.share_fine:
            clip = render((size, size))
        else:
            clip = render((2 * size, 2 * size))
            halved = clip.frames.reshape(num_frames, size, 2, size, 2, 3).mean((2, 4))
            clip.frames = np.round(halved).astype(np.uint8)
            clip.owners = clip.owners[:, ::2, ::2]
        if followed is not None:
            soften(clip, rng)
        return clip, followed

    def _prefix(self, num_frames: int, as_image: bool) -> list[int]:
        """Tokens from the system sentence to the line break behind the frames."""
        kind = "image" if as_image else "video"
        messages = [{"role": "user", "content": [{"type": kind}, {"type": "text", "text": ""}]}]
        text = self.processor.apply_chat_template(messages, tokenize=False)
        if as_image:
            text = text.replace("<image>", "<image>" * self.processor.num_kept_tokens)
        else:
            text = text.replace("<video>", self.processor.expand_frames(num_frames))
        return self.processor.tokenizer.encode(text, add_special_tokens=False)

    def _object_tensors(self, clips: list[Shown], num_frames: int) -> dict[str, torch.Tensor]:
        count, grid = len(clips), self.patches
        boxes = np.zeros((count, num_frames, MAX_OBJECTS, 4), np.float32)
        visible = np.zeros((count, num_frames, MAX_OBJECTS), bool)
        coverage = np.zeros((count, num_frames, MAX_OBJECTS, grid * grid), np.float32)
        colours = np.full((count, MAX_OBJECTS), IGNORE)
        kinds = np.full((count, MAX_OBJECTS), IGNORE)
        patch = clips[0].clip.owners.shape[1] // grid
        name_tokens = np.full((count, MAX_OBJECTS), IGNORE)
        for b, shown in enumerate(clips):
            scene, clip = shown.scene, shown.clip
            objects = clip.visible.shape[1]
            boxes[b, :, :objects], visible[b, :, :objects] = clip.boxes_xyxy_norm, clip.visible
            for o in range(objects):
                tiles = (clip.owners == o).reshape(num_frames, grid, patch, grid, patch)
                coverage[b, :, o] = tiles.mean((2, 4)).reshape(num_frames, -1)
                sprite = scene.objects[scene.tracked[o]].sprite
                colours[b, o] = self._colour_number.get(sprite.colour, IGNORE)
                kinds[b, o] = self._kind_number.get(sprite.kind, IGNORE)
                known = shown.classes[o] if shown.classes else None
                if sprite.kind is not None:
                    name = sprite.kind if known is None else known.name
                    name_tokens[b, o] = self.processor.tokenizer.encode(f" {name}", add_special_tokens=False)[0]
        arrays = {"boxes": boxes, "visible": visible, "coverage": coverage, "colours": colours, "kinds": kinds}
        arrays["name_tokens"] = name_tokens
        return {name: torch.from_numpy(value) for name, value in arrays.items()}

    def _template(self, task: str, rng: np.random.Generator) -> str:
        if rng.random() < self.plan.share_other_phrasings:
            return self.phrasings[task][rng.integers(len(self.phrasings[task]))]
        return self.processor.task_prompts[task]

    def _ask(self, task: str, template: str, turn: int, shown: Shown, rng: np.random.Generator) -> Question:
        """One question of the task; another task's where the scene has nothing to ask about."""
        scene, clip = shown.scene, shown.clip
        num_frames, objects = clip.visible.shape
        if task == "video_qa":
            pairs = scene_questions(scene, clip.boxes_xyxy_norm, clip.visible, shown.absent_name)
            if pairs:
                question, answer = pairs[rng.integers(len(pairs))]
                return Question(template.replace("{question}", question), answer, -1)
            return Question("How many frames are there?", str(num_frames), -1)
        if task == "rsot" and shown.absent_name is not None and rng.random() < self.mix.absent_names:
            question = template.replace("{text}", f"the {shown.absent_name}")
            return Question(question, format_frames([None] * num_frames), -1)
        referring = {o: referring_expressions(scene, o, clip.boxes_xyxy_norm, clip.visible) for o in range(objects)}
        in_first = [o for o in range(objects) if clip.visible[0, o]]
        if task in ("rec", "rsot"):
            able = [o for o in range(objects) if referring[o] and (task == "rsot" or clip.visible[0, o])]
        elif task in ("reg", "video_reg"):
            able = [o for o in in_first if shown.name_of(o)]
        else:
            able = in_first
        if not able:
            return Question(f"How many objects are at {format_box((0, 0, 1, 1))}?", str(len(in_first)), -1)
        chosen = able[turn % len(able)]
        if task in ("sot", "rsot") and shown.followed in able and rng.random() < _SHARE_FOLLOWED:
            chosen = shown.followed
        boxes = [clip.boxes_xyxy_norm[t, chosen] if clip.visible[t, chosen] else None for t in range(num_frames)]
        if task in ("reg", "video_reg"):
            box = format_box(_shifted(boxes[0], shown.box_jitter, rng))
            return Question(template.replace("{box}", box), str(shown.name_of(chosen)), chosen)
        if task == "rec":
            text = self._words(shown, chosen, referring[chosen], rng)
            return Question(template.replace("{text}", text), format_box(boxes[0]), chosen)
        if task == "rsot":
            question = template.replace("{text}", self._words(shown, chosen, referring[chosen], rng))
        else:
            question = template.replace("{box}", format_box(_shifted(boxes[0], shown.box_jitter, rng)))
        answer = format_frames(boxes)
        if num_frames == 1 or rng.random() >= self.plan.wrong_histories:
            return Question(question, answer, chosen)
        return Question(question, answer, chosen, format_frames(wrong_history(boxes, clip, chosen, rng)))

    def _words(self, shown: Shown, chosen: int, options: Sequence[str], rng: np.random.Generator) -> str:
        """Words for a tracked object, one of some options."""
        known = shown.classes[chosen] if shown.classes else None
        return detailed(str(rng.choice(options)), known, rng)

    def _glimpse(self, task: str, template: str, turn: int, shown: Shown, rng: np.random.Generator) -> Question:
        """A tracking question whose answer is one frame's, any; rather one in which the object is out of sight."""
        whole, clip = self._ask(task, template, turn, shown, rng), shown.clip
        if whole.object_index < 0:
            return whole
        visible = clip.visible[:, whole.object_index]
        frames = np.flatnonzero(~visible) if not visible.all() and rng.random() < 0.15 else np.arange(len(visible))
        t = int(rng.choice(frames))
        text = format_box(clip.boxes_xyxy_norm[t, whole.object_index]) if visible[t] else ABSENT_TEXT
        return Question(whole.question, f"Frame {t + 1}: {text}", whole.object_index, glimpse=t + 1)

    def _encode(self, questions: list[list[Question]]) -> dict[str, torch.Tensor]:
        """Right-padded tokens of B * Q questions with answers.

        labels is IGNORE outside answers; coordinate_frame says, for the token whose successor is a coordinate, which
        frame it belongs to (-1 elsewhere); object_index (B * Q,).
        """
        encode = partial(self.processor.tokenizer.encode, add_special_tokens=False)
        end = [self.processor.tokenizer.eos_token_id]
        rows = []
        for question in (q for clip in questions for q in clip):
            asked, answer = encode(question.question + " ASSISTANT:"), encode(" " + question.answer)
            given = 0
            if question.glimpse is None:
                answer = answer + end
            else:
                given = len(encode(f" Frame {question.glimpse}:"))
            history = answer if question.history is None else encode(" " + question.history) + end
            rows.append((question, asked, answer, history, given))
        length = max(len(asked) + len(answer) for _, asked, answer, _, _ in rows)
        ids = torch.full((len(rows), length), self.processor.tokenizer.pad_token_id)
        labels = torch.full((len(rows), length), IGNORE)
        frame_of = torch.full((len(rows), length), -1)
        for row, (question, asked, answer, history, given) in enumerate(rows):
            ids[row, : len(asked) + len(history)] = torch.tensor(asked + history)
            labels[row, len(asked) + given - 1 : len(asked) + len(answer) - 1] = torch.tensor(answer[given:])
            if question.object_index >= 0:
                self._mark_coordinates(frame_of[row], asked, answer, (question.glimpse or 1) - 2)
        objects = torch.tensor([question.object_index for question, *_ in rows])
        return {"ids": ids, "labels": labels, "coordinate_frame": frame_of, "object_index": objects}

    def _mark_coordinates(self, frame_of: torch.Tensor, asked: list[int], answer: list[int], frame: int) -> None:
        bracket, close = self.processor.tokenizer.convert_tokens_to_ids(["[", "]"])
        comma = self.processor.tokenizer.convert_tokens_to_ids(",")
        none_id = self.processor.tokenizer.encode(" none", add_special_tokens=False)[0]
        inside = False
        for position, token in enumerate(answer):
            if token == bracket:
                frame, inside = frame + 1, True
            elif token == none_id:
                frame += 1
            elif token == close:
                inside = False
            elif inside and token != comma:
                frame_of[len(asked) + position - 1] = frame
