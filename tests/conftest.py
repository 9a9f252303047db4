"""What every test runs under: no network, and one thread for each of the two test processes."""

import os
from collections.abc import Iterator

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module")
def small_worlds() -> Iterator[None]:
    """Let synthetic clips come from worlds that are drawn in a moment: few backgrounds, things and shapes."""
    import elysium.training.synthetic.scene as scene

    def small(seed: int) -> scene.World:
        return world(seed, num_backgrounds=2, num_unnamed=6, num_variants=1)

    world = scene.World
    with pytest.MonkeyPatch.context() as patch:
        for module in ("dataset", "synthetic_samples"):
            patch.setattr(f"elysium.training.synthetic.{module}.World", small)
        yield
