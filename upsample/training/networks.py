"""Build the upsampler that a run trains, new, copied or loaded, and its teacher."""

from copy import deepcopy

import diffusers
import torch

from upsample.model import ResidualShiftUpsampler
from upsample.training.config import UpsampleTrainConfig

_CHAIN = (
    "num_train_timesteps",
    "kappa",
    "min_noise_level",
    "autoencoder",
)  # what a teacher's answer and its noise depend on


def build_upsampler(
    config: UpsampleTrainConfig,
) -> tuple[ResidualShiftUpsampler, ResidualShiftUpsampler | None]:
    """Build the upsampler to train, and its teacher when a term needs one.

    Raises:
        ValueError: what is named is not there, or does not fit.
    """
    teacher = None
    if config.stage != "teacher" and config.teacher:
        teacher = ResidualShiftUpsampler.from_pretrained(config.teacher).eval().requires_grad_(False)
    if config.start_from:
        student = ResidualShiftUpsampler.from_pretrained(config.start_from)
    elif teacher is not None:
        student = deepcopy(teacher).requires_grad_(True)
    else:
        student = _new_upsampler(config)
    if teacher is not None:
        differs = [name for name in _CHAIN if teacher.config[name] != student.config[name]]
        if differs:
            told = ", ".join(f"{name} {teacher.config[name]} and {student.config[name]}" for name in differs)
            raise ValueError(f"teacher and student differ in their chain ({told}); use a student of this teacher")
        if config.teacher_steps > teacher.config.num_train_timesteps:
            raise ValueError(f"teacher_steps {config.teacher_steps} exceeds its {teacher.config.num_train_timesteps}")
    for model, name in ((teacher, config.teacher), (student, config.start_from)):
        if model is not None and model.config.scale != config.scale:
            raise ValueError(f"{name or 'the teacher'} is for scale {model.config.scale}, not {config.scale}")
    student.first_stage.requires_grad_(False)
    student.set_steps(student.config.num_train_timesteps if config.stage == "teacher" else 1)
    return student.train(), teacher


def _new_upsampler(config: UpsampleTrainConfig) -> ResidualShiftUpsampler:
    size, weights = config.size, None
    autoencoder = size.autoencoder
    if config.first_stage:
        weights = diffusers.AutoModel.from_pretrained(config.first_stage)
        autoencoder = dict(weights.config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.schedule.seed)
        model = ResidualShiftUpsampler(
            scale=config.scale, steps=1, widths=size.widths, blocks=size.blocks,
            embedding_dim=size.embedding_dim, num_train_timesteps=size.num_train_timesteps, kappa=size.kappa,
            min_noise_level=size.min_noise_level, autoencoder=autoencoder, unet2d=size.unet2d,
        )  # fmt: skip
    if weights is not None:
        model.first_stage.model.load_state_dict(weights.state_dict())
    return model
