"""Define OneModelPipeline, a diffusers pipeline around one model that comes with the package."""

from pathlib import Path
from typing import Any, ClassVar, Self

from diffusers.pipelines.pipeline_utils import DiffusionPipeline

from degrade.networks.pretrained import Pretrained


class OneModelPipeline(DiffusionPipeline):
    """Load a pipeline by everything that its model loads by.

    Attributes:
        model_class: class of the model, which the constructor takes as its only argument; a subclass sets it.
    """

    model_class: ClassVar[type[Pretrained]]

    @classmethod
    def from_pretrained(cls, name: str | Path, **kwargs: Any) -> Self:
        """Load a pipeline by shipped name ("tiny-x4", which works offline), from a folder, or from a hub id.

        Args:
            name: a shipped name, a folder of weights such as ``runs/both/student``, or a folder or hub id made by
                ``save_pretrained`` of the pipeline.
            **kwargs: options for diffusers, such as ``torch_dtype``.

        Raises:
            ValueError: there is no such model, or it is damaged.
        """
        on_hub = not Path(name).exists() and "/" in str(name)
        if on_hub or (Path(name) / cls.config_name).is_file():
            return super().from_pretrained(str(name), **kwargs)
        return cls(cls.model_class.from_pretrained(name, **kwargs))
