"""transformers' shared tests of configurations and models, on ours."""

import unittest
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import torch
from pretrained_parts import VISION
from tiny import TINY_MODEL, tiny_config
from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES
from transformers.testing_utils import torch_device
from transformers_tests.test_configuration_common import ConfigTester
from transformers_tests.test_modeling_common import ModelTesterMixin, floats_tensor, ids_tensor

from elysium.modeling_elysium import ElysiumConfig, ElysiumForConditionalGeneration, ElysiumModel

# By this table the tests know a model without a head, which has no loss.
MODEL_MAPPING_NAMES["elysium"] = "ElysiumModel"


class ElysiumTester:
    """Makes the smallest configuration and a batch: in every row an image, a video of one frame, and words."""

    batch_size = 3
    num_words = 7
    is_training = True
    hidden_size = TINY_MODEL["text_width"]
    num_hidden_layers = TINY_MODEL["text_layers"]
    num_attention_heads = TINY_MODEL["text_width"] // 32
    image_size = TINY_MODEL["image_size"]

    def __init__(self, parent: unittest.TestCase) -> None:
        self.parent = parent
        kept = TINY_MODEL["num_kept_tokens"]
        self.seq_length = 2 * kept + self.num_words
        self.encoder_seq_length = self.seq_length
        self.num_image_tokens = kept

    def get_config(self) -> ElysiumConfig:
        return self.shorten(tiny_config())

    def shorten(self, config: ElysiumConfig) -> ElysiumConfig:
        """As many positions as transformers' own testers have; one test compares cosines at the last of them."""
        config.text_config.max_position_embeddings = 512
        return config

    def prepare_config_and_inputs_for_common(self) -> tuple[ElysiumConfig, dict[str, Any]]:
        config = self.get_config()
        kept = config.num_kept_tokens
        taken = {config.image_token_id, config.video_token_id, config.text_config.pad_token_id}
        words = ids_tensor([self.batch_size, self.num_words], config.text_config.vocab_size - 1) + 1
        words[torch.isin(words, torch.tensor(sorted(token for token in taken if token is not None)))] = 9
        images = torch.full((self.batch_size, kept), config.image_token_id)
        videos = torch.full((self.batch_size, kept), config.video_token_id)
        input_ids = torch.cat([words[:, :1], images, words[:, 1:2], videos, words[:, 2:]], dim=1).to(torch_device)
        shape = [self.batch_size, 3, self.image_size, self.image_size]
        return config, {
            "input_ids": input_ids,
            "attention_mask": torch.ones_like(input_ids),
            "pixel_values": floats_tensor(shape),
            "pixel_values_videos": floats_tensor(shape),
        }


class SiglipElysiumTester(ElysiumTester):
    """The same with a SigLIP tower, of which the penultimate layer is read."""

    def get_config(self) -> ElysiumConfig:
        vision = VISION | {"model_type": "siglip_vision_model"}
        return self.shorten(tiny_config(vision_config=vision, vision_prefix_tokens=0, vision_feature_layer=-2))


class ElysiumModelTest(ModelTesterMixin, unittest.TestCase):
    all_model_classes = (ElysiumModel, ElysiumForConditionalGeneration)
    makes_inputs = ElysiumTester
    _is_composite = True

    def setUp(self) -> None:
        self.model_tester = self.makes_inputs(self)
        self.config_tester = ConfigTester(self, config_class=ElysiumConfig, has_text_modality=False)

    def test_config(self) -> None:
        self.config_tester.run_common_tests()

    def test_can_init_all_missing_weights(self) -> None:
        # transformers initialises modules of a tower otherwise where the code round it is marked as custom, which
        # `import elysium` does so that checkpoints carry it; the test is about our own `_init_weights`.
        with ExitStack() as unmarked:
            for model_class in self.all_model_classes:
                unmarked.enter_context(patch.object(model_class, "is_custom_code", staticmethod(lambda: False)))
            super().test_can_init_all_missing_weights()


class SiglipElysiumModelTest(ElysiumModelTest):
    makes_inputs = SiglipElysiumTester
