"""Define Pretrained, the base of models that load by shipped name, from a folder, or from a Hugging Face hub id."""

import inspect
import re
import warnings
from pathlib import Path
from typing import Any, ClassVar, Self

import torch

from degrade.diffusers_bases import ModelMixin, no_init_weights
from degrade.errors import shown
from degrade.networks.weight_files import check_finite, check_weights, read_config, read_headers, shard_files

_DIVIDING = ("auto", "balanced", "balanced_low_0", "sequential")  # values of device_map


class Pretrained(ModelMixin):
    """Load a diffusers model, whose weights may come with the package.

    Attributes:
        weights_dir: folder of the weights that come with the package; a subclass sets it.
        kind: what to call the model in error messages; a subclass sets it.
    """

    weights_dir: ClassVar[str]  # no Path: it leads to all modules, and deepinv's clone() visits what it can reach
    kind: ClassVar[str]

    @classmethod
    def from_pretrained(cls, name: str | Path, **kwargs: Any) -> Self:
        """Load a model by shipped name ("tiny-x4", which works offline), from a folder, or from a Hugging Face hub id.

        Args:
            name: shipped name, folder or hub id.
            **kwargs: options for diffusers, such as ``revision`` or ``torch_dtype``. Only safetensors are read.

        Raises:
            ValueError: there is no such model, or it is damaged, was saved by another version, or is a pickle; or
                ``device_map`` asks to divide the network among devices.
        """
        if kwargs.get("device_map") in _DIVIDING:
            raise ValueError(
                f"device_map {kwargs['device_map']!r} divides a network among devices, and a {cls.kind} stays on one; "
                "leave it out and call .to('cuda'), or give the name of a device"
            )
        shipped = Path(cls.weights_dir, str(name))
        folder = shipped if (shipped / "config.json").is_file() else Path(name)
        # The hub is only asked for "owner/name", because it takes half a minute to fail offline.
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
            for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):  # diffusers fills in random weights
                if loaded[problem]:
                    raise ValueError(f"expected shape: {problem} {shown(', '.join(map(str, loaded[problem])))}")
            check_finite({**dict(model.named_parameters()), **dict(model.named_buffers())})
        except OSError as err:
            reason = shown(" ".join(str(err).split()))
            raise ValueError(f"no {cls.kind} {called} could be loaded ({reason}); {cls._choices()}") from err
        except ValueError as err:  # diffusers' own message advises to load it with some random weights
            other = "was saved by another version" if "expected shape" in str(err) else f"is damaged ({err})"
            raise ValueError(f"{cls.kind} {called} {other}; {cls._choices()}") from err
        for tensor in (*model.parameters(), *model.buffers()):
            # A tensor mapped from a file has the alignment of the file, and some sums on a CPU depend on the alignment.
            tensor.data = tensor.data.clone()
        return model

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move or cast the model as `torch.nn.Module.to` does.

        At every cast, diffusers warns of modules that should stay in float32, although there are none here.
        """
        device, dtype, non_blocking, memory_format = torch._C._nn._parse_to(*args, **kwargs)
        torch.nn.Module.to(self, dtype=dtype, memory_format=memory_format)  # type: ignore[call-overload]
        return self if device is None else super().to(device=device, non_blocking=non_blocking)

    @classmethod
    def _check_folder(cls, folder: Path, called: str, variant: str | None) -> None:
        """Check that configuration and weights in a folder belong to one network, before memory is allocated for it."""
        infix = f"{variant}." if variant else ""
        file = folder / f"diffusion_pytorch_model.{infix}safetensors"
        index = folder / f"diffusion_pytorch_model.safetensors.index.{infix}json"
        if not (index.is_file() or file.is_file()):
            raise ValueError(
                f"no {cls.kind} {called}: no {file.name} there, and pickles are not read; {cls._choices()}"
            )
        known = inspect.signature(cls.__init__).parameters
        try:
            config = read_config(folder / "config.json", known)
        except ValueError as err:
            raise ValueError(f"no {cls.kind} {called}: {err}; {cls._choices()}") from err
        try:
            with torch.device("meta"), no_init_weights(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                network = cls(**{key: value for key, value in config.items() if key in known})
        except Exception as err:  # given wrong types, the constructors of three libraries raise anything
            reason = shown(" ".join(str(err).split()))
            raise ValueError(
                f"no {cls.kind} {called}: config.json does not describe one ({reason}); {cls._choices()}"
            ) from err
        expected = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
        try:
            stored = read_headers(shard_files(index) if index.is_file() else [file])  # diffusers prefers the index too
        except ValueError as err:
            raise ValueError(f"no {cls.kind} {called}: {err}; fetch it again, or {cls._choices()}") from err
        try:
            check_weights(stored, expected)
        except ValueError as err:
            raise ValueError(f"{cls.kind} {called} was saved by another version ({err}); {cls._choices()}") from err

    @classmethod
    def shipped_names(cls) -> list[str]:
        """List the names of the weights that come with the package."""
        return sorted(path.parent.name for path in Path(cls.weights_dir).glob("*/config.json"))

    @classmethod
    def _choices(cls) -> str:
        shipped = ", ".join(cls.shipped_names()) or "none"
        return f"use a shipped name ({shipped}), a folder made by save_pretrained, or a hub id"
