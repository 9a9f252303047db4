"""Registration with transformers' Auto classes, as soon as transformers itself is loaded.

`import elysium` must make ``AutoModel.from_pretrained`` work without loading torch and transformers, for which
``elysium --help`` should not wait. transformers has no entry point for model types, so where it is not loaded yet, an
import finder registers when the outermost import that brings it in has finished.
"""

import functools
import sys
import threading
from collections.abc import Sequence
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

LOWEST_TRANSFORMERS = (5, 19)


def register_auto_classes() -> None:
    """Register config, models and processors with transformers' Auto classes; doing it again changes nothing.

    From then on `save_pretrained` also writes the code (the `_elysium.py` files) and `auto_map` beside the weights, so
    that the folder loads with ``trust_remote_code=True`` where this package is not installed.
    """
    import transformers
    from transformers import AutoConfig, AutoProcessor
    from transformers.conversion_mapping import register_checkpoint_conversion_mapping
    from transformers.models.auto import modeling_auto

    # The top-level names may be placeholders where torchvision is not installed; these are the classes themselves.
    from transformers.models.auto.image_processing_auto import AutoImageProcessor
    from transformers.models.auto.video_processing_auto import AutoVideoProcessor
    from transformers.pipelines import PIPELINE_REGISTRY

    from elysium.modeling_elysium.configuration_elysium import ElysiumConfig
    from elysium.modeling_elysium.convert_elysium_weights import released_conversions
    from elysium.modeling_elysium.modeling_elysium import ElysiumForConditionalGeneration, ElysiumModel
    from elysium.processing.image_processing_elysium import ElysiumImageProcessor
    from elysium.processing.processing_elysium import ElysiumProcessor
    from elysium.processing.video_processing_elysium import ElysiumVideoProcessor
    from elysium.tracking.object_tracking_pipeline import ObjectTrackingPipeline

    AutoConfig.register(ElysiumConfig.model_type, ElysiumConfig, exist_ok=True)
    modeling_auto.AutoModel.register(ElysiumConfig, ElysiumModel, exist_ok=True)
    for name in ("ImageTextToText", "MultimodalLM", "CausalLM"):
        auto_class = getattr(modeling_auto, f"AutoModelFor{name}")
        auto_class.register(ElysiumConfig, ElysiumForConditionalGeneration, exist_ok=True)
    AutoProcessor.register(ElysiumConfig, ElysiumProcessor, exist_ok=True)
    backends = ("pil", "torchvision")  # one class does without torchvision, and with it
    images, videos = dict.fromkeys(backends, ElysiumImageProcessor), dict.fromkeys(backends, ElysiumVideoProcessor)
    AutoImageProcessor.register(ElysiumConfig, image_processor_classes=images, exist_ok=True)
    AutoVideoProcessor.register(ElysiumConfig, video_processor_classes=videos, exist_ok=True)

    if "object-tracking" not in PIPELINE_REGISTRY.get_supported_tasks():
        model = modeling_auto.AutoModelForImageTextToText
        PIPELINE_REGISTRY.register_pipeline(
            "object-tracking", ObjectTrackingPipeline, pt_model=model, type="multimodal"
        )

    # transformers' server and TRL look classes up by these names.
    transformers.ElysiumForConditionalGeneration = ElysiumForConditionalGeneration
    names = modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
    names[ElysiumConfig.model_type] = ElysiumForConditionalGeneration.__name__

    # The public release loads as it is, too.
    register_checkpoint_conversion_mapping(ElysiumConfig.model_type, released_conversions(), overwrite=True)

    ElysiumConfig.register_for_auto_class("AutoConfig")
    ElysiumModel.register_for_auto_class("AutoModel")
    ElysiumForConditionalGeneration.register_for_auto_class("AutoModelForImageTextToText")
    ElysiumProcessor.register_for_auto_class("AutoProcessor")
    ElysiumImageProcessor.register_for_auto_class("AutoImageProcessor")
    ElysiumVideoProcessor.register_for_auto_class("AutoVideoProcessor")


def check_transformers_version() -> None:
    """Raise `ImportError` where the installed transformers is too old, by its metadata, without loading it."""
    try:
        installed = version("transformers")
    except PackageNotFoundError:
        return
    if tuple(int(part) for part in installed.split(".")[:2]) < LOWEST_TRANSFORMERS:
        lowest = ".".join(map(str, LOWEST_TRANSFORMERS))
        remedy = f"pip install 'transformers>={lowest}'"
        raise ImportError(f"transformers must be {lowest} or newer, got {installed}; run {remedy}")


def register_with_transformers() -> None:
    """Register now if transformers is loaded, else as soon as it is.

    Raises:
        ImportError: transformers is too old.
    """
    check_transformers_version()
    loaded = sys.modules.get("transformers")
    if loaded is not None and not getattr(loaded.__spec__, "_initializing", False):
        register_auto_classes()
    elif not any(isinstance(finder, _TransformersWatcher) for finder in sys.meta_path):
        sys.meta_path.insert(0, _TransformersWatcher())


class _TransformersWatcher:
    """Import finder that registers Elysium once transformers has been imported.

    It counts how deep imports of both packages are nested in this thread: an Elysium module that imports transformers
    must finish first, because registering imports that module.
    """

    def __init__(self) -> None:
        self._thread = threading.local()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec that the other finders give; None, which means "not mine", for modules not watched."""
        if fullname != "transformers" and not fullname.startswith("elysium."):
            return None
        finders = (finder for finder in sys.meta_path if finder is not self and hasattr(finder, "find_spec"))
        spec = next(filter(None, (finder.find_spec(fullname, path, target) for finder in finders)), None)
        if spec is not None and spec.loader is not None and hasattr(spec.loader, "exec_module"):
            spec.loader.exec_module = functools.partial(self._execute, spec.loader)  # type: ignore[method-assign]
        return spec

    def _execute(self, loader: Loader, module: ModuleType) -> None:
        """Run the module's code, and register if that was the outermost watched import."""
        del loader.exec_module  # this method, which find_spec put in front of the loader's own
        self._thread.depth = getattr(self._thread, "depth", 0) + 1
        try:
            loader.exec_module(module)
        finally:
            self._thread.depth -= 1
        if self._thread.depth == 0 and "transformers" in sys.modules and self in sys.meta_path:
            sys.meta_path.remove(self)
            register_auto_classes()
