"""What pretrained models come as: the golden releases, small vision towers, language models with tokenizers."""

from pathlib import Path
from typing import Any

import torch
from tiny import tiny_tokenizer
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    Dinov2Config,
    Dinov2Model,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
    SiglipVisionConfig,
    SiglipVisionModel,
    ViTConfig,
    ViTModel,
)

GOLDEN = Path(__file__).parent / "fixtures" / "golden"
RELEASES = ["released-format-gated", "released-format-strided"]
VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "pad_token_id": None,
}


def clip(folder: Path) -> None:
    CLIPVisionModel(CLIPVisionConfig(**VISION)).save_pretrained(folder)


def whole_clip(folder: Path) -> None:
    CLIPModel(CLIPConfig(vision_config=VISION, text_config=TEXT | {"vocab_size": 50})).save_pretrained(folder)


def siglip(folder: Path) -> None:
    SiglipVisionModel(SiglipVisionConfig(**VISION)).save_pretrained(folder)


def dinov2(folder: Path) -> None:
    Dinov2Model(Dinov2Config(**VISION)).save_pretrained(folder)


def dinov3(folder: Path) -> None:
    DINOv3ViTModel(DINOv3ViTConfig(**VISION, num_register_tokens=2)).save_pretrained(folder)


def llama(folder: Path) -> None:
    rows = plain_tokenizer(folder)
    LlamaForCausalLM(LlamaConfig(**TEXT, vocab_size=rows)).save_pretrained(folder)


def padded_llama(folder: Path) -> None:
    """More rows than tokens, as many releases have: the placeholders fit in."""
    rows = plain_tokenizer(folder)
    LlamaForCausalLM(LlamaConfig(**TEXT, vocab_size=rows + 60)).save_pretrained(folder)


def tied_qwen(folder: Path) -> None:
    rows = plain_tokenizer(folder)
    Qwen3ForCausalLM(Qwen3Config(**TEXT, vocab_size=rows, tie_word_embeddings=True)).save_pretrained(folder)


def make(path: Path, part: Any) -> Path:
    torch.manual_seed(1)
    part(path)
    return path


def foreign_tower(folder: Path) -> None:
    ViTModel(ViTConfig(**VISION)).save_pretrained(folder)


def capped_llm(folder: Path) -> None:
    rows = plain_tokenizer(folder)
    Gemma2ForCausalLM(Gemma2Config(**TEXT, vocab_size=rows)).save_pretrained(folder)


def plain_tokenizer(folder: Path) -> int:
    """Saves a tokenizer without our placeholders, as a language model's; returns its length."""
    words = tiny_tokenizer().get_vocab()
    plain = sorted((word for word in words if word not in ("<image>", "<video>")), key=words.get)
    inner = Tokenizer(models.WordLevel({word: n for n, word in enumerate(plain)}, unk_token=plain[0]))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    wrapped = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token=plain[0], eos_token="</s>", bos_token="<s>")
    wrapped.save_pretrained(folder)
    return len(wrapped)
