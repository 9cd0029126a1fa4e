"""Pretrained: models that load by shipped name (offline), from a folder, or from a Hugging Face hub id."""

import re
from pathlib import Path
from typing import Any, ClassVar, Self

from diffusers.models.modeling_utils import ModelMixin


class Pretrained(ModelMixin):
    """A diffusers model with weights that come with the package.

    Subclasses say where those lie, in ``weights_dir``, and what they are called in a sentence, in ``kind``.
    """

    weights_dir: ClassVar[Path]
    kind: ClassVar[str]

    @classmethod
    def from_pretrained(cls, name: str | Path, **kwargs: Any) -> Self:
        """Load weights by shipped name ("tiny-x4", offline), from a folder, or from a Hugging Face hub id.

        Args:
            name: what to load.
            **kwargs: passed on to diffusers (``revision``, ``torch_dtype``, ...). Only safetensors are read.

        Raises:
            ValueError: there is nothing of this name.
        """
        shipped = cls.weights_dir / str(name)
        folder = shipped if (shipped / "config.json").is_file() else Path(name)
        # "owner/name" is the only thing worth asking the hub for: it takes half a minute to say no when offline.
        on_hub = not folder.exists() and re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", str(name)) is not None
        if not on_hub and not (folder / kwargs.get("subfolder", "") / "config.json").is_file():
            raise ValueError(f"no {cls.kind} {str(name)!r}: {folder} has no config.json; {cls._choices()}")
        try:
            model = super().from_pretrained(str(name if on_hub else folder), **{**kwargs, "use_safetensors": True})
        except OSError as err:
            raise ValueError(f"no {cls.kind} {str(name)!r} could be loaded ({err}); {cls._choices()}") from err
        except ValueError as err:  # diffusers advises to load it with random weights in the place of some
            if "expected shape" not in str(err):
                raise
            raise ValueError(f"{cls.kind} {str(name)!r} was saved by another version; {cls._choices()}") from err
        for tensor in (*model.parameters(), *model.buffers()):
            # Tensors mapped from a file lie where the file has them, and some sums on a CPU depend on the alignment.
            tensor.data = tensor.data.clone()
        return model

    @classmethod
    def shipped_names(cls) -> list[str]:
        """Names of the weights that come with the package."""
        return sorted(path.parent.name for path in cls.weights_dir.glob("*/config.json"))

    @classmethod
    def _choices(cls) -> str:
        shipped = ", ".join(cls.shipped_names()) or "none"
        return f"use a shipped name ({shipped}), a folder made by save_pretrained, or a hub id"
