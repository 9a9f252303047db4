"""Answers a video chat with a checkpoint folder, in a Python that holds torch, transformers, Pillow and PyAV alone.

    python answer.py FOLDER VIDEO WORDS

`make test-bundle` makes such an environment and runs this with the shipped checkpoint.
"""

import importlib.util
import sys

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

for package in ("elysium", "torchvision", "accelerate", "cv2", "supervision"):
    if importlib.util.find_spec(package) is not None:
        sys.exit(f"{package} must not be installed in the environment that this checks")

folder, video, words = sys.argv[1:]
processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
model = AutoModelForImageTextToText.from_pretrained(folder, trust_remote_code=True)
inputs = processor.apply_chat_template(
    processor.build_messages("rsot", video=video, text=words),
    add_generation_prompt=True,
    tokenize=True,
    return_dict=True,
    return_tensors="pt",
    processor_kwargs={"do_sample_frames": True, "num_frames": 8},
)
with torch.no_grad():
    tokens = model.generate(**inputs, max_new_tokens=200, do_sample=False)
answer = processor.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip()
boxes = processor.post_process_boxes(answer, num_frames=8)[0]
print(answer)
if not all(box["box_xyxy_norm"] for box in boxes):
    sys.exit("every frame must have a box that can be read")
