"""Train an upsampler: its networks, its data and its outputs, driven by `degrade.training.loop`.

teacher    ResShift: a chain of T steps (`upsample.training.teacher`)
student    SinSR: one step, distilled from the teacher (`upsample.training.colearn`, the arrows of the degrader off)
colearn    the paper: student and degrader together, under D_H and D_L, with the cycle (`upsample.training.colearn`)
"""

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from tqdm import tqdm

from degrade.degrader import RealisticDegrader
from degrade.images.real_pairs import aligned_pairs
from degrade.mix import DegradationMix, reference_codes
from degrade.networks.discriminator import PatchDiscriminator
from degrade.perceptual.pretrained_features import PretrainedFeatures, pretrained_features
from degrade.perceptual.projected_critic import ProjectedCritic
from degrade.seeds import torch_seed
from degrade.training.average import moving_average
from degrade.training.config import DegraderSize
from degrade.training.loop import RunOptions, load_batches, make_accelerator, make_autocast, run_training
from degrade.training.report import plot_curves, write_card
from degrade.training.state import TrainState
from degrade.training.step import Models, Step
from upsample.model import ResidualShiftUpsampler
from upsample.training.answers import StoredAnswers, make_answers
from upsample.training.colearn import Networks, Optimizers, colearn_step
from upsample.training.config import UpsampleTrainConfig
from upsample.training.data import PairData
from upsample.training.learning_degrader import LearningDegrader
from upsample.training.networks import build_upsampler
from upsample.training.online import OnlinePairs, ReplayBuffer, make_online
from upsample.training.teacher import teacher_step
from upsample.training.validate import validate

CURVES = (
    "loss",
    "psnr",
    "val_psnr_y",
    "val_ssim_y",
    "val_sharp_psnr_y",
    "val_sharp_ssim_y",
    "x0",
    "distill",
    "inverse",
    "gt",
    "pair",
    "perceptual",
    "detail_pixels",
    "detail_features",
    "cycle",
    "critic_hr",
    "adversarial_hr",
    "critic_lr",
    "degrader_adversarial",
    "degrader_energy",
    "degrader_spread",
    "realism_kid",
    "realism_w1",
)
Batches = tuple[dict[str, Tensor], dict[str, Tensor] | None]  # the upsampler's, and the degrader's when it learns


def train(
    config: UpsampleTrainConfig,
    out: Path,
    options: RunOptions | None = None,
    *,
    val_pairs: tuple[str, str] | None = None,
) -> dict[str, Any]:
    """Train an upsampler and leave its averaged weights in ``out``: teacher/, or student/ and degrader/.

    ``torchrun`` or ``accelerate launch`` start it in several processes, each with batches of its own.

    Args:
        config: what to train.
        out: folder of the run: train_config.yaml, metrics.jsonl, tensorboard events, curves.png, samples/,
            checkpoints/, and the weights.
        options: how to run it.
        val_pairs: folders (hr, lr) to validate on; None for no validation.

    Returns:
        summary: process, stage, steps, seconds, the last metrics, the folder of the weights, what was left out, and,
        when a degrader learned, at which step its stop signal was lowest. Only process 0 has metrics.

    Raises:
        ValueError: ``out`` holds another run, or the settings do not fit.
    """
    options = options or RunOptions()
    accelerator = make_accelerator(options)
    training = UpsamplerTraining(config, options, accelerator, val_pairs=val_pairs)
    summary = {"stage": config.stage, **run_training(training, config, config.schedule, out, options, accelerator)}
    summary["weights"] = str(out / training.folder)
    if accelerator.is_main_process:
        write_card(
            out / training.folder,
            asdict(config),
            summary,
            title=f"An upsampler: {config.stage}",
            what=f"`ResidualShiftUpsampler.from_pretrained(<this folder>)` upscales LR images by {config.scale}.",
            tags="super-resolution",
            command=options.command or "upsample.training.run.train(config, out)",
        )
    return summary


class UpsamplerTraining:
    """The networks, data and optimizers of one run; see `degrade.training.loop.Training` for its methods.

    Args:
        config: what to train.
        options: how to run it.
        accelerator: knows the device and the processes.
        val_pairs: folders (hr, lr) to validate on.

    Raises:
        ValueError: the settings or the data do not fit.
    """

    def __init__(
        self,
        config: UpsampleTrainConfig,
        options: RunOptions,
        accelerator: Accelerator,
        *,
        val_pairs: tuple[str, str] | None = None,
    ) -> None:
        config.check()
        schedule = config.schedule
        self.config, self.options, self.accelerator = config, options, accelerator
        self.folder = "teacher" if config.stage == "teacher" else "student"
        self.data = PairData(
            config.data,
            scale=config.scale,
            hr_crop=schedule.hr_crop,
            batch_size=schedule.batch_size,
            seed=schedule.seed,
        )
        self.left_out = list(self.data.left_out)
        self.val, unusable = aligned_pairs([val_pairs] if val_pairs else [], scale=config.scale, min_side=16)
        self.left_out += unusable
        if val_pairs and not self.val:
            raise ValueError(f"no pair to validate on is usable; the first reason: {unusable[0]}")
        self.answers: StoredAnswers | None = None
        self._build_networks()
        self.signal = None
        if self.learning is not None and accelerator.is_main_process:
            self.signal = self.learning.stop_signal()
        if self.learning is not None:
            self.left_out += self.learning.left_out

    def _build_networks(self) -> None:
        config, schedule, accelerator = self.config, self.config.schedule, self.accelerator
        student, teacher, notes = build_upsampler(config)
        self.left_out += notes
        mix, lower = self._build_degrader()
        hr_critic: PatchDiscriminator | ProjectedCritic | None = None
        if config.stage == "colearn" and config.loss.adversarial_hr:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(torch_seed(schedule.seed))
                hr_critic = self._build_hr_critic()
        features = self._features() if config.detail.branch and config.detail.features else None
        self.nets = Networks(student, teacher, hr_critic, lower, features)
        for net in (student, teacher, hr_critic, *(lower.parts().values() if lower else ())):
            if net is not None:
                net.to(accelerator.device)
        self.optimizers = Optimizers.build(self.nets, config, accelerator)
        self.average_of = moving_average(student, schedule.ema_decay)
        parts: dict[str, nn.Module] = {"upsampler": student}
        parts |= {"hr_critic": hr_critic} if hr_critic is not None else {}
        parts |= lower.parts() if lower is not None else {}
        averages = {"upsampler": self.average_of}
        self.learning: LearningDegrader | None = None
        if mix is not None and mix.degrader is not None and lower is not None and config.degrader.train:
            self.learning = LearningDegrader(config, lower, mix.degrader)
            averages["degrader"] = self.learning.average
        optimizers = {name: own.adamw for name, own in vars(self.optimizers).items() if own is not None}
        self.state = TrainState(parts, optimizers, averages)
        self.online = None
        if mix is not None:
            colearn, capacity = config.stage == "colearn", config.pool_batches * schedule.batch_size
            buffer = ReplayBuffer(capacity, self.state.tensors) if colearn and capacity else None
            self.online = OnlinePairs(mix, colearn=colearn, buffer=buffer)

    def _build_hr_critic(self) -> PatchDiscriminator | ProjectedCritic:
        if self.config.projected_critic:
            return ProjectedCritic(self._features())
        return PatchDiscriminator(0, self.config.critic.width)

    def _features(self) -> PretrainedFeatures:
        return deepcopy(pretrained_features()).to(self.accelerator.device)

    def _build_degrader(self) -> tuple[DegradationMix | None, Models | None]:
        """Build the degrader that makes pairs online, and the one that co-learning trains or asks."""
        config, data = self.config, self.config.data
        if not data.online_degrader:
            if config.stage == "colearn":
                self.left_out.append("no online degrader: cycle, its pairs and D_L are off")
            return None, None
        degrader = RealisticDegrader.from_pretrained(data.online_degrader).eval()
        own_scale = degrader.config.scale  # the largest that it degrades by
        if config.stage == "colearn" and config.degrader.train and own_scale != config.scale:
            raise ValueError(
                f"{data.online_degrader} is a degrader for scale {own_scale}, and learns nothing at {config.scale}; "
                "give --freeze-degrader, or a degrader for this scale"
            )
        codes = [code for folder in data.reference_dirs for code in reference_codes(degrader, folder)]
        looks = torch.tensor(codes) if codes else None
        mix = DegradationMix(degrader.to(self.accelerator.device), None, scale=config.scale, codes=looks)
        if config.stage != "colearn":
            return mix, None
        return mix, Models.build(
            start_from=data.online_degrader,
            scale=own_scale,
            size=DegraderSize(),
            critic_width=config.degrader.critic.width,
            seed=config.schedule.seed,
        )

    def begin(self, out: Path) -> None:
        """Give the degrader that makes pairs the resumed weights, and store the teacher's answers when asked for."""
        if self.learning is not None:
            self.learning.follow()
        if self.config.stored_answers:
            self.answers = self._store_answers(out / "answers.safetensors")

    def batches(self, numbers: range) -> Iterator[Batches]:
        """Yield the batches with these numbers: the upsampler's, and the degrader's when it learns."""
        loaders, size = self.options.loaders, self.config.schedule.batch_size
        own: Iterator[dict[str, Tensor]]
        if self.answers is None:
            own = load_batches(self.data, numbers, loaders, self.left_out)
        else:
            answers = self.answers
            own = (answers.batch(number, size) for number in numbers)
        learning = self.learning
        lower = (None for _ in numbers) if learning is None else learning.batches(numbers, loaders, self.left_out)
        return zip(own, lower, strict=True)

    def step(self, batch: Batches, step: Step) -> dict[str, float]:
        """Take one micro-batch."""
        device = self.accelerator.device
        own, lower = (None if part is None else {k: v.to(device) for k, v in part.items()} for part in batch)
        assert own is not None
        if self.answers is None:
            if self.learning is not None and self.online is not None and lower is not None:
                self.online.mix.codes = self.learning.looks(lower["lr"], step.generator)
            own = self._complete(own, step.generator)
        if self.config.stage == "teacher":
            return teacher_step(self.nets.student, self.optimizers.student, own, self.config, step)
        return colearn_step(self.nets, self.optimizers, own, lower, self.config, step)

    def _complete(self, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        if self.online is not None:
            return self.online.complete(batch, generator)
        return {"hr": batch["hr"], "lr": batch["lr"], "generated": torch.zeros_like(batch["online"])}

    def average(self) -> None:
        """Update the moving averages of student and degrader."""
        if self.config.schedule.ema_decay:
            self.average_of.update_parameters(self.nets.student)
        if self.learning is not None:
            self.learning.step_average()

    def averaged(self) -> ResidualShiftUpsampler:
        """Return a copy of the upsampler with averaged weights."""
        model = deepcopy(self.nets.student)
        if self.config.schedule.ema_decay:
            model.load_state_dict(self.average_of.module.state_dict())
        return model.eval()

    def validate(self, picture: Path) -> dict[str, float]:
        """Score the upsampler on the validation pairs, and measure the stop signal of a degrader that learns."""
        news = validate(self.averaged(), self.val, picture) if self.val else {}
        if self.signal is not None and self.learning is not None:
            news |= self.signal.measure(self.learning.averaged())
        return news

    def save_weights(self, out: Path) -> None:
        """Write the averaged upsampler, the averaged degrader when it learns, and the curves."""
        self.averaged().save_pretrained(out / self.folder)
        if self.learning is not None:
            self.learning.averaged().save_pretrained(out / "degrader")
        plot_curves(out / "metrics.jsonl", out / "curves.png", CURVES)

    def _store_answers(self, file: Path) -> StoredAnswers:
        """Make the teacher's answers once, before training."""
        config, accelerator = self.config, self.accelerator
        if accelerator.is_main_process and not file.exists():
            assert self.nets.teacher is not None
            count = -(-config.stored_answers // config.schedule.batch_size)
            batches = (self.data[number] for number in range(-count, 0))  # training never reaches these
            made = ({**batch, **self._made(batch)} for batch in batches)
            bar: Callable[[Any], Any] = lambda batches: tqdm(  # noqa: E731
                batches, total=count, desc="teacher's answers", disable=None if self.options.progress else True
            )
            make_answers(
                self.nets.teacher,
                made,
                file,
                steps=config.teacher_steps,
                device=str(accelerator.device),
                autocast=make_autocast(self.options, accelerator),
                progress=bar,
            )
        accelerator.wait_for_everyone()
        return StoredAnswers(file, config.schedule.seed)

    def _made(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        hr, lr = make_online(batch, self.online.mix) if self.online is not None else (batch["hr"], batch["lr"])
        return {"hr": hr, "lr": lr}
