"""Describe the upsampler to spandrel, which loads models for many upscaling programs; `register` adds it there."""

from spandrel import (
    MAIN_REGISTRY,
    Architecture,
    ArchRegistry,
    ArchSupport,
    ImageModelDescriptor,
    ModelTiling,
    SizeRequirements,
    StateDict,
)

from upsample.model import ResidualShiftUpsampler


class ResidualShiftArch(Architecture[ResidualShiftUpsampler]):
    """Recognise the state dict of a `ResidualShiftUpsampler` by its buffers, and deduce the configuration from it."""

    def __init__(self) -> None:
        super().__init__(id="ResidualShiftUpsampler", detect=_is_ours)

    def load(self, state_dict: StateDict) -> ImageModelDescriptor[ResidualShiftUpsampler]:
        """Build the model that a state dict belongs to.

        Raises:
            ValueError: the weights alone do not describe the network or the first stage.
        """
        if "unet.stem.weight" not in state_dict or any(key.startswith("first_stage.") for key in state_dict):
            raise ValueError(
                "these weights belong to an upsampler with unet2d or an autoencoder, which only config.json describes; "
                "load the folder with ResidualShiftUpsampler.from_pretrained"
            )
        scale, steps, kappa, min_noise_level = (round(value, 6) for value in state_dict["chain"].tolist())
        widths = tuple(state_dict[f"unet.{layer}.weight"].shape[0] for layer in ("stem", "to_middle", "to_bottom"))
        blocks = sum(key.startswith("unet.top.") and key.endswith(".conv1.weight") for key in state_dict)
        num_train_timesteps, embedding_dim = state_dict["time_embedding.weight"].shape
        detail = state_dict.get("detail_default")  # weights without a detail branch have none
        model = ResidualShiftUpsampler(
            scale=int(scale),
            steps=int(steps),
            widths=widths,
            blocks=blocks,
            embedding_dim=embedding_dim,
            num_train_timesteps=num_train_timesteps,
            kappa=kappa,
            min_noise_level=min_noise_level,
            detail=None if detail is None else round(float(detail), 6),
        )
        return ImageModelDescriptor(
            model,
            state_dict,
            architecture=self,
            purpose="SR",
            tags=["-".join(map(str, widths)), f"{blocks} blocks", f"{int(steps)} steps"]
            + ([] if detail is None else [f"detail {model.config.detail:g}"]),
            supports_half=True,
            supports_bfloat16=True,
            scale=int(scale),
            input_channels=3,
            output_channels=3,
            size_requirements=SizeRequirements(),  # any size, because the model pads its input
            tiling=ModelTiling.SUPPORTED,
        )


def register(registry: ArchRegistry = MAIN_REGISTRY) -> None:
    """Add the architecture to spandrel; calling this again changes nothing.

    Args:
        registry: where to add it; by default the registry that every ``ModelLoader`` uses.

    Example:
        >>> register()
        >>> model = spandrel.ModelLoader().load_from_file("student.safetensors")  # from `upsample export --spandrel`
        >>> sr = model(lr)
    """
    registry.add(ArchSupport.from_architecture(ResidualShiftArch()), ignore_duplicates=True)


def _is_ours(state_dict: StateDict) -> bool:
    chain, noise = state_dict.get("chain"), state_dict.get("noise")
    return chain is not None and noise is not None and chain.shape == (4,) and noise.ndim == 3
