"""The tokenizer of elysium-tiny: byte-level BPE of 4,096 pieces, learnt from text that every Python carries.

GUIDE of its rules: no unknown token; 0..100 are single tokens; `[`, `,`, `]`, `:` and the frame label never merge with
their neighbours, so that a box is always the same 9 tokens whatever stands around it.
"""

import importlib
import inspect
import random
from collections.abc import Iterator

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from elysium.processing.boxes_elysium import format_frames
from elysium.processing.prompts.chat_template import SYSTEM_SENTENCE
from elysium.processing.prompts.phrasings import load_phrasings

VOCAB_SIZE = 4096
_PIECES = r"100|\d{1,2}|[\[\],:]|\n| ?Frame(?= \d)|'(?:s|t|re|ve|m|ll|d)| ?\p{L}+| ?[^\s\p{L}\p{N}\[\],:]+|\s"
_CORPUS_MODULES = (
    "argparse asyncio calendar collections configparser csv datetime decimal difflib doctest email fractions ftplib "
    "functools gettext heapq html http.client http.server imaplib inspect ipaddress itertools json logging mailbox "
    "mimetypes optparse os pathlib pdb pickle platform pydoc random sched secrets shutil smtplib socket sqlite3 "
    "statistics string subprocess tarfile tempfile textwrap threading timeit trace turtle typing unittest "
    "urllib.parse urllib.request uuid warnings wave xml.dom.minidom zipfile"
).split()


def _corpus(world_words: list[str]) -> Iterator[str]:
    """Prompts and answers of the product many times over, then plain English from the standard library."""
    rng = random.Random(0)
    for _ in range(400):
        for task in load_phrasings().values():
            for phrasing in task:
                yield phrasing.format(text="the object", box="[1,2,3,4]", question="what is it?")
        yield SYSTEM_SENTENCE + " USER: ASSISTANT: none."
        corners = sorted(rng.random() for _ in range(4))
        yield " " + format_frames([(corners[0], corners[1], corners[2], corners[3]), None])
        yield " ".join(str(n) for n in range(101))
        yield " " + " ".join(world_words)
    for name in _CORPUS_MODULES:
        module = importlib.import_module(name)
        for _, member in inspect.getmembers(module, lambda m: inspect.isclass(m) or inspect.isroutine(m)):
            yield inspect.getdoc(member) or ""
        yield inspect.getdoc(module) or ""


def build_tiny_tokenizer(world_words: list[str]) -> PreTrainedTokenizerFast:
    """Trains the tokenizer.

    Args:
        world_words: words of the synthetic world, which become single tokens.

    Raises:
        ValueError: where a number of 0..100 did not become one token.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<pad>", "<s>", "</s>", "<image>", "<video>"]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(world_words), trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=8192,
        extra_special_tokens={"image_token": "<image>", "video_token": "<video>"},
    )
    broken = [n for n in range(101) if len(fast.encode(str(n), add_special_tokens=False)) != 1]
    if broken:
        raise ValueError(f"0..100 must be single tokens, got {broken} in pieces; train on more numbers.")
    return fast
