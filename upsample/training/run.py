"""Run: the networks, the data and the optimisers of one training, its steps, checkpoints and validations.

A step is a function of the settings, the weights, and its number alone, so that a run that was killed goes on with
the numbers that an unbroken one would have had.
"""

import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from degrade.degrader import RealisticDegrader
from degrade.images.crops import ImagePool, list_lr
from degrade.images.geometry import Image
from degrade.images.real_pairs import aligned_pairs
from degrade.images.tensors import to_tensors
from degrade.mix import DegradationMix, reference_codes
from degrade.networks.discriminator import PatchDiscriminator
from degrade.realism.stop_signal import StopSignal
from degrade.training.config import DegraderTrainConfig
from degrade.training.data import DataConfig, TrainingData
from degrade.training.loop import averaged_degrader, one_thread_each
from degrade.training.report import plot_curves
from degrade.training.state import TrainState, open_run, saved_at, saved_by
from degrade.training.step import Models, learning_rate
from upsample.model import ResidualShiftUpsampler
from upsample.training.answers import StoredAnswers, make_answers
from upsample.training.colearn import Descents, Networks, colearn_step
from upsample.training.config import UpsampleTrainConfig
from upsample.training.data import PairData
from upsample.training.descent import Descent
from upsample.training.networks import build_upsampler
from upsample.training.online import PairPool, make_online
from upsample.training.teacher import teacher_loss
from upsample.training.validate import validate

REFERENCE_SIDE = 32  # LR pixels of the crops whose looks a learning degrader reads anew at every step
REFERENCE_CROPS = 8  # of each reference photograph
CURVES = (
    "loss",
    "psnr",
    "val_psnr_y",
    "val_ssim_y",
    "x0",
    "distill",
    "inverse",
    "gt",
    "pair",
    "perceptual",
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
_CHECKPOINT = re.compile(r"step-(\d{7})\.safetensors")


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a run is run, which does not change what it trains.

    Attributes:
        device: "auto", "cpu" or "cuda"; of several GPUs each process takes its own.
        mixed_precision: "no" or "bf16"; ``accelerate launch`` may say it too.
        resume: "" to start; "latest", or the path of a checkpoint of this run, to go on.
        log_every: steps between lines of metrics.jsonl.
        validate_every: steps between validations, pictures, and readings of the stop signal.
        checkpoint_every: steps between checkpoints.
        checkpoints_total_limit: checkpoints kept, the newest.
        loaders: processes that make batches.
        val_pairs: folders (hr, lr) to validate on; () for none.
        command: what to write into the model card.
        progress: show a bar.
    """

    device: str = "auto"
    mixed_precision: str = "no"
    resume: str = ""
    log_every: int = 20
    validate_every: int = 500
    checkpoint_every: int = 500
    checkpoints_total_limit: int = 2
    loaders: int = 1
    val_pairs: tuple[str, str] | tuple[()] = ()
    command: str = ""
    progress: bool = True


class Run:
    """Networks, data and optimisers of one run; `step` takes a step.

    ``out`` is touched last, so that settings that do not fit leave no folder.
    """

    def __init__(self, config: UpsampleTrainConfig, out: Path, options: RunOptions, accelerator: Accelerator) -> None:
        config.check()
        self.config, self.out, self.options, self.accelerator = config, out, options, accelerator
        self.device = str(accelerator.device)
        self.folder = out / ("teacher" if config.stage == "teacher" else "student")
        self.start, self.seconds_before = 0, 0.0
        self.tensors: dict[str, Tensor] = {}
        self.references: Tensor | None = None
        sizes = {"scale": config.scale, "hr_crop": config.hr_crop, "seed": config.seed}
        self.data = PairData(config.data, batch_size=config.batch_size, **sizes)
        self.left_out = list(self.data.left_out)
        self.val: list[tuple[Image, Image]] = []
        if options.val_pairs:
            self.val, unusable = aligned_pairs([options.val_pairs], scale=config.scale, min_side=16)
            self.left_out += unusable
            if not self.val:
                raise ValueError(f"no pair to validate on is usable; the first reason: {unusable[0]}")
        self._build_networks(sizes)
        checkpoint = self._checkpoint()
        if checkpoint is not None:
            self._load(checkpoint)
        if accelerator.is_main_process:
            open_run(config, out, resume=bool(options.resume))
            (out / "checkpoints").mkdir(exist_ok=True)
        accelerator.wait_for_everyone()
        self.answers = self._store_answers()

    def _build_networks(self, sizes: dict[str, int]) -> None:
        config, accelerator = self.config, self.accelerator
        student, teacher = build_upsampler(config)
        self.mix, self.signal, self.lower_data, lower = self._build_lower(sizes)
        # The copy that makes pairs while the degrader learns; it follows the averaged weights.
        self.learning = self.mix.degrader if self.mix is not None and self.lower_data is not None else None
        colearn = config.stage == "colearn"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            hr_critic = PatchDiscriminator(0, config.critic_width) if colearn and config.adversarial_hr else None
        self.nets = Networks(student, teacher, hr_critic, lower)
        for net in (student, teacher, hr_critic, *(lower.parts().values() if lower else ())):
            if net is not None:
                net.to(self.device)
        moved = [p for p in student.parameters() if p.requires_grad]
        clip = config.grad_clip
        self.descents = Descents(Descent(moved, accelerator, betas=(0.9, 0.99), clip=clip))
        parts: dict[str, nn.Module] = {"upsampler": student}
        self.averages = {"upsampler": EMAModel(student.parameters(), decay=config.ema_decay)}
        if hr_critic is not None:
            parts["hr_critic"] = hr_critic
            self.descents.hr_critic = Descent(hr_critic.parameters(), accelerator, betas=(0.0, 0.99), clip=0.0)
        if lower is not None:
            parts |= lower.parts()
            if config.train_degrader:
                ours = [*lower.degrader.parameters(), *lower.texture_head.parameters()]
                self.descents.degrader = Descent(ours, accelerator, betas=(0.9, 0.99), clip=clip)
                self.averages["degrader"] = EMAModel(lower.degrader.parameters(), decay=config.ema_decay)
                if config.degrader.adversarial:
                    critic = lower.critic.parameters()
                    self.descents.lr_critic = Descent(critic, accelerator, betas=(0.0, 0.99), clip=0.0)
        descents = {name: descent for name, descent in vars(self.descents).items() if descent is not None}
        optimizers = {name: descent.optimizer for name, descent in descents.items()}
        self.state = TrainState(parts, optimizers, self.averages, self.tensors)

    def _build_lower(
        self, sizes: dict[str, int]
    ) -> tuple[DegradationMix | None, StopSignal | None, TrainingData | None, Models | None]:
        """The degrader that makes pairs online, and, when it learns too, what it learns from."""
        config, data = self.config, self.config.data
        if not data.online_degrader:
            if config.stage == "colearn":
                self.left_out.append("no online degrader: cycle, its pairs and D_L are off")
            return None, None, None, None
        degrader = RealisticDegrader.from_pretrained(data.online_degrader).eval()
        codes = [code for folder in data.reference_dirs for code in reference_codes(degrader, folder)]
        mix = DegradationMix(degrader.to(self.device), None, scale=config.scale)
        mix.codes = torch.tensor(codes) if codes else None
        if config.stage != "colearn":
            return mix, None, None, None
        lower = Models.build(_lower_config(config))
        if not config.train_degrader:
            return mix, None, None, lower
        own = DataConfig(
            hr_dir=data.hr_dir, recipes=data.recipes, pairs=data.pairs, lr_dirs=config.real_lr,
            weights=config.degrader.data.weights, max_hr_side=data.max_hr_side,
        )  # fmt: skip
        if data.reference_dirs:
            looks = [source for folder in data.reference_dirs for source in list_lr(Path(folder))]
            pool = ImagePool.open(looks, min_side=REFERENCE_SIDE)
            crops = pool.crops(REFERENCE_CROPS * len(pool.sources), REFERENCE_SIDE, config.seed, grid=8)
            self.references = to_tensors(crops)
        lower_data = TrainingData(own, batch_size=config.degrader.batch_size, **sizes)
        self.left_out += lower_data.left_out
        real = [*config.real_lr, *(lr for _, lr in data.pairs)]
        signal = None
        if real and self.accelerator.is_main_process:
            try:
                signal = StopSignal(data.hr_dir, real, scale=config.scale, max_hr_side=data.max_hr_side)
            except ValueError as err:  # images that are large enough to learn from may be too small to measure
                self.left_out.append(f"the stop signal: {err}")
        return mix, signal, lower_data, lower

    def batches(self) -> Iterator[tuple[dict[str, Tensor], dict[str, Tensor] | None]]:
        """The batches of this process from ``start`` on: of the upsampler, and of the degrader."""
        first = self._number(self.start, 0)
        last = self._number(self.config.steps, 0)
        numbers = range(first, last, self.accelerator.num_processes)
        answers = self.answers
        own: Any
        if answers is None:
            own = self._loader(self.data, numbers)
        else:
            own = (answers.batch(number, self.config.batch_size) for number in numbers)
        lower = (None for _ in numbers) if self.lower_data is None else self._loader(self.lower_data, numbers)
        return zip(own, lower, strict=True)

    def _loader(self, data: Any, numbers: range) -> Any:
        loaders = self.options.loaders
        return DataLoader(
            data, batch_size=None, sampler=numbers, num_workers=loaders, prefetch_factor=4 if loaders else None,
            worker_init_fn=one_thread_each,
        )  # fmt: skip

    def step(
        self, step: int, micro: int, batches: tuple[dict[str, Tensor], dict[str, Tensor] | None]
    ) -> dict[str, float]:
        """One micro-batch; the weights move after the last of a step."""
        config = self.config
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + self._number(step, micro))
        update = micro == config.gradient_accumulation_steps - 1
        batch, lower_batch = (None if b is None else {k: v.to(self.device) for k, v in b.items()} for b in batches)
        assert batch is not None
        if self.answers is None:
            if lower_batch is not None and self.learning is not None and self.mix is not None:
                self.mix.codes = self._looks(lower_batch["lr"], generator)
            batch = self._complete(batch, generator)
        autocast = self.autocast()
        if config.stage == "teacher":
            loss, terms = teacher_loss(
                self.nets.student, batch, generator, autocast, perceptual_weight=config.perceptual
            )
            (loss / config.gradient_accumulation_steps).backward()
            if update:
                rate = {"warmup_steps": config.warmup_steps, "steps": config.steps}
                self.descents.student.step(learning_rate(config.learning_rate, step, **rate))
            return {name: float(term.detach()) for name, term in {**terms, "loss": loss}.items()}
        return colearn_step(
            self.nets, self.descents, batch, lower_batch, config, step, generator, autocast, update=update
        )

    def _complete(self, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Let the degrader make what is still to be made; while it learns, through a pool of its earlier pairs."""
        online = batch["online"]
        batch = make_online(batch, self.mix)
        colearn = self.config.stage == "colearn"
        rows = online.nonzero()[:, 0]
        if colearn and len(rows):
            hr, lr = batch["hr"][rows], batch["lr"][rows]
            # Up to one grey level of noise, then rounding: what hides in the last bit does not survive.
            dither = torch.rand(lr.shape, generator=generator).to(lr) * 2 - 1
            lr = ((lr * 255 + dither).round() / 255).clamp(0, 1)
            if self.config.pool_batches:
                pool = PairPool(self.config.pool_batches * self.config.batch_size, self.tensors)
                hr, lr = pool.swap(hr, lr, generator)
            batch = {"hr": batch["hr"].index_copy(0, rows, hr), "lr": batch["lr"].index_copy(0, rows, lr)}
        return {**batch, "generated": online if colearn else torch.zeros_like(online)}

    def _looks(self, lr: Tensor, generator: torch.Generator) -> Tensor:
        """Codes for this step's pairs, as the degrader reads them now, for its bank is of the time before it learned.

        Of the reference photographs, else of the LR images that it learns from.
        """
        assert self.learning is not None
        if self.references is not None:
            rows = torch.randint(len(self.references), (self.config.batch_size,), generator=generator)
            lr = self.references[rows].to(lr)
        with torch.no_grad():
            return self.learning.encode(lr)

    def autocast(self) -> torch.autocast:
        """Mixed precision of the network calls."""
        kind = torch.device(self.device).type
        bf16 = "bf16" in (self.options.mixed_precision, self.accelerator.mixed_precision)
        return torch.autocast(kind, dtype=torch.bfloat16, enabled=bf16)

    def average(self) -> None:
        """Follow the weights with their moving averages; the degrader that makes pairs is the averaged one."""
        if self.config.ema_decay:
            self.averages["upsampler"].step(self.nets.student.parameters())
            if self.learning is not None and self.nets.lower is not None:
                self.averages["degrader"].step(self.nets.lower.degrader.parameters())
        self._follow()

    def _follow(self) -> None:
        """Give the degrader that makes pairs the averaged weights of the one that learns."""
        if self.learning is None or self.nets.lower is None:
            return
        if self.config.ema_decay:
            self.averages["degrader"].copy_to(self.learning.parameters())
        else:
            for ours, theirs in zip(self.learning.parameters(), self.nets.lower.degrader.parameters(), strict=True):
                ours.data.copy_(theirs.data)

    def averaged_degrader(self) -> RealisticDegrader | None:
        """A copy of the degrader that learns, averaged, with a bank of the looks that it learns from."""
        if self.learning is None or self.nets.lower is None or self.lower_data is None:
            return None
        ema = self.averages["degrader"] if self.config.ema_decay else None
        return averaged_degrader(self.nets.lower.degrader, ema, self.lower_data)

    def averaged(self) -> ResidualShiftUpsampler:
        """A copy of the upsampler with the averaged weights."""
        model = deepcopy(self.nets.student)
        if self.config.ema_decay:
            self.averages["upsampler"].copy_to(model.parameters())
        return model.eval()

    def look(self, picture: Path) -> dict[str, float]:
        """Validation figures and a picture; the stop signal of a degrader that learns."""
        news = validate(self.averaged(), self.val, picture) if self.val else {}
        degrader = self.averaged_degrader() if self.signal is not None else None
        if self.signal is not None and degrader is not None:
            news |= self.signal.measure(degrader)
        return news

    def save(self, done: int, seconds: float) -> None:
        """Write the averaged weights, the curves, and a checkpoint; the oldest checkpoints beyond the limit go.

        Each process keeps the pool of its own pairs.
        """
        file = self.out / "checkpoints" / f"step-{done:07d}.safetensors"
        if not self.accelerator.is_main_process:
            if self.tensors:
                save_file(self.tensors, self._own(file))
            return
        self.averaged().save_pretrained(self.folder)
        degrader = self.averaged_degrader()
        if degrader is not None:
            degrader.save_pretrained(self.out / "degrader")
        plot_curves(self.out / "metrics.jsonl", self.out / "curves.png", CURVES)
        for later in (path for path in self._checkpoints() if path.name > file.name):
            self._remove(later)  # of a run that went further before it was taken back to here
        self.state.save(file, done, seconds, self.accelerator.num_processes)
        for old in self._checkpoints()[: -self.options.checkpoints_total_limit]:
            self._remove(old)

    def _load(self, checkpoint: Path) -> None:
        processes = saved_by(checkpoint)
        if processes != self.accelerator.num_processes:
            raise ValueError(
                f"{checkpoint} is of {processes} processes, this is a run of {self.accelerator.num_processes}; "
                "start as many, for each has its own batches"
            )
        self.start, self.seconds_before = saved_at(checkpoint)
        self.state.load(checkpoint)
        self.tensors = self.state.tensors
        if not self.accelerator.is_main_process:
            self.tensors = load_file(self._own(checkpoint)) if self._own(checkpoint).exists() else {}
        self._follow()

    def _own(self, checkpoint: Path) -> Path:
        """Where this process keeps what only it has."""
        return checkpoint.with_suffix(f".rank-{self.accelerator.process_index}")

    def _remove(self, checkpoint: Path) -> None:
        for path in checkpoint.parent.glob(f"{checkpoint.stem}.*"):
            path.unlink()

    def _checkpoints(self) -> list[Path]:
        folder = self.out / "checkpoints"
        return sorted(path for path in folder.glob("step-*.safetensors") if _CHECKPOINT.fullmatch(path.name))

    def _checkpoint(self) -> Path | None:
        """The checkpoint to go on from; None to start."""
        if not self.options.resume:
            return None
        if self.options.resume == "latest":
            return max(self._checkpoints(), default=None)
        path = Path(self.options.resume)
        if not path.is_file():
            found = ", ".join(map(str, self._checkpoints())) or "none"
            raise ValueError(f"there is no checkpoint {path}; use latest, or one of: {found}")
        return path

    def _store_answers(self) -> StoredAnswers | None:
        """Make the teacher's answers once, before training, when the settings say so."""
        config = self.config
        if not config.stored_targets:
            return None
        file = self.out / "answers.safetensors"
        if self.accelerator.is_main_process and not file.exists():
            teacher = self.nets.teacher
            assert teacher is not None
            count = -(-config.stored_targets // config.batch_size)
            numbers = range(-count, 0)  # training never reaches these
            batches = (self.data[number] for number in numbers)
            made = ({**batch, **make_online(batch, self.mix)} for batch in batches)
            bar: Callable[[Any], Any] = lambda batches: tqdm(  # noqa: E731
                batches, total=count, desc="teacher's answers", disable=None if self.options.progress else True
            )
            make_answers(
                teacher, made, file, steps=config.teacher_steps, device=self.device, autocast=self.autocast(),
                progress=bar,
            )  # fmt: skip
        self.accelerator.wait_for_everyone()
        return StoredAnswers(file, config.seed)

    def _number(self, step: int, micro: int) -> int:
        """Batches count through steps, micro-batches and processes, so that no two are alike."""
        per_step = self.config.gradient_accumulation_steps
        return (step * per_step + micro) * self.accelerator.num_processes + self.accelerator.process_index


def _lower_config(config: UpsampleTrainConfig) -> DegraderTrainConfig:
    return replace(config.degrader, start_from=config.data.online_degrader, scale=config.scale, seed=config.seed)
