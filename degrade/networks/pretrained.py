"""Pretrained: models that load by shipped name (offline), from a folder, or from a Hugging Face hub id."""

import inspect
import re
import warnings
from pathlib import Path
from typing import Any, ClassVar, Self

import torch

from degrade.diffusers_bases import ModelMixin, no_init_weights
from degrade.errors import shown
from degrade.networks.weight_files import check_finite, check_weights, read_config, read_header


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
            ValueError: there is nothing of this name, or it is damaged, of another version, or a pickle.
        """
        shipped = cls.weights_dir / str(name)
        folder = shipped if (shipped / "config.json").is_file() else Path(name)
        # "owner/name" is the only thing worth asking the hub for: it takes half a minute to say no when offline.
        on_hub = not folder.exists() and re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", str(name)) is not None
        files = folder / kwargs.get("subfolder", "")
        called = shown(repr(str(name)))
        if not on_hub and not (files / "config.json").is_file():
            raise ValueError(f"no {cls.kind} {called}: {shown(str(folder))} has no config.json; {cls._choices()}")
        if not on_hub:
            cls._check_folder(files, called, kwargs.get("variant"))
        try:
            model, loaded = super().from_pretrained(
                str(name if on_hub else folder), **{**kwargs, "use_safetensors": True, "output_loading_info": True}
            )
            for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):  # diffusers draws what is missing
                if loaded[problem]:
                    raise ValueError(f"expected shape: {problem} {shown(', '.join(map(str, loaded[problem])))}")
            check_finite({**dict(model.named_parameters()), **dict(model.named_buffers())})
        except OSError as err:
            reason = shown(" ".join(str(err).split()))
            raise ValueError(f"no {cls.kind} {called} could be loaded ({reason}); {cls._choices()}") from err
        except ValueError as err:  # diffusers advises to load it with random weights in the place of some
            other = "was saved by another version" if "expected shape" in str(err) else f"is damaged ({err})"
            raise ValueError(f"{cls.kind} {called} {other}; {cls._choices()}") from err
        for tensor in (*model.parameters(), *model.buffers()):
            # Tensors mapped from a file lie where the file has them, and some sums on a CPU depend on the alignment.
            tensor.data = tensor.data.clone()
        return model

    @classmethod
    def _check_folder(cls, folder: Path, called: str, variant: str | None) -> None:
        """See that a folder's configuration and weights are of one network, before memory is taken for it."""
        file = folder / f"diffusion_pytorch_model.{f'{variant}.' if variant else ''}safetensors"
        if not file.is_file():
            raise ValueError(f"no {cls.kind} {called}: no {file.name} there, pickles are not read; {cls._choices()}")
        known = inspect.signature(cls.__init__).parameters
        try:
            config = read_config(folder / "config.json", known)
        except ValueError as err:
            raise ValueError(f"no {cls.kind} {called}: {err}; {cls._choices()}") from err
        try:
            with torch.device("meta"), no_init_weights(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                network = cls(**{key: value for key, value in config.items() if key in known})
        except Exception as err:  # of wrong types, the constructors of three libraries raise whatever they stumble over
            reason = shown(" ".join(str(err).split()))
            raise ValueError(
                f"no {cls.kind} {called}: config.json describes none ({reason}); {cls._choices()}"
            ) from err
        expected = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
        try:
            stored, _ = read_header(file)
        except ValueError as err:
            raise ValueError(f"no {cls.kind} {called}: {err}; fetch it again, or {cls._choices()}") from err
        try:
            check_weights(stored, expected)
        except ValueError as err:
            raise ValueError(f"{cls.kind} {called} was saved by another version ({err}); {cls._choices()}") from err

    @classmethod
    def shipped_names(cls) -> list[str]:
        """Names of the weights that come with the package."""
        return sorted(path.parent.name for path in cls.weights_dir.glob("*/config.json"))

    @classmethod
    def _choices(cls) -> str:
        shipped = ", ".join(cls.shipped_names()) or "none"
        return f"use a shipped name ({shipped}), a folder made by save_pretrained, or a hub id"
