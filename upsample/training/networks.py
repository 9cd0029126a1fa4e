"""Build the upsampler that a run trains, new, copied or loaded, and its teacher."""

from copy import deepcopy

import diffusers
import torch

from degrade.seeds import torch_seed
from upsample.model import ResidualShiftUpsampler
from upsample.training.config import UpsampleTrainConfig
from upsample.training.other_scale import at_scale

_CHAIN = (
    "num_train_timesteps",
    "kappa",
    "min_noise_level",
    "autoencoder",
)  # what a teacher's answer and its noise depend on


def build_upsampler(
    config: UpsampleTrainConfig,
) -> tuple[ResidualShiftUpsampler, ResidualShiftUpsampler | None, list[str]]:
    """Build the upsampler to train, and its teacher when a term needs one.

    Returns:
        The upsampler, its teacher or None, and a sentence for each part of the weights that it starts from that is new,
        changed or left as it is.

    Raises:
        ValueError: what is named is not there, or does not fit.
    """
    teacher, notes = None, []
    if config.stage != "teacher" and config.teacher:
        teacher = ResidualShiftUpsampler.from_pretrained(config.teacher).eval().requires_grad_(False)
    if config.start_from:
        student = ResidualShiftUpsampler.from_pretrained(config.start_from)
        if student.config.scale != config.scale:
            student, note = at_scale(student, config.scale)
            notes.append(f"{config.start_from}: {note}")
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
    if teacher is not None and teacher.config.scale != config.scale:
        raise ValueError(f"the teacher {config.teacher} is for scale {teacher.config.scale}, not {config.scale}")
    if config.detail.branch and student.detail_branch is None:
        student = _with_branch(student, config)
    if config.stage == "colearn" and student.detail_branch is not None and not config.detail.branch:
        notes.append(f"the detail branch of {config.start_from} stays as it is; --detail-branch trains it too")
    student.requires_grad_(config.student_learns)
    if student.detail_branch is not None:
        student.detail_branch.requires_grad_(config.detail.branch)
    student.first_stage.requires_grad_(False)
    student.set_steps(student.config.num_train_timesteps if config.stage == "teacher" else 1)
    return student.train(), teacher, notes


def _with_branch(student: ResidualShiftUpsampler, config: UpsampleTrainConfig) -> ResidualShiftUpsampler:
    """Build the same upsampler with a new detail branch."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_seed(config.schedule.seed))
        known = {name: value for name, value in student.config.items() if not name.startswith("_")}
        model = ResidualShiftUpsampler(**{**known, "detail": config.detail.default})
    model.load_state_dict(student.state_dict(), strict=False)
    return model


def _new_upsampler(config: UpsampleTrainConfig) -> ResidualShiftUpsampler:
    size, weights = config.size, None
    autoencoder = size.autoencoder
    if config.first_stage:
        weights = diffusers.AutoModel.from_pretrained(config.first_stage)
        autoencoder = dict(weights.config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_seed(config.schedule.seed))
        model = ResidualShiftUpsampler(
            scale=config.scale, steps=1, widths=size.widths, blocks=size.blocks,
            embedding_dim=size.embedding_dim, num_train_timesteps=size.num_train_timesteps, kappa=size.kappa,
            min_noise_level=size.min_noise_level, autoencoder=autoencoder, unet2d=size.unet2d,
        )  # fmt: skip
    if weights is not None:
        model.first_stage.model.load_state_dict(weights.state_dict())
    return model
