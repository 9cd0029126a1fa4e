"""Load the programs of examples/, which are no package, and make their comparisons small."""

import importlib.util
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
import torch

from degrade.synth.run import SynthRun
from degrade.synth.settings import SynthSettings

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Return a function that imports an example by its name, anew each time; it finds the examples beside it."""
    monkeypatch.syspath_prepend(EXAMPLES)

    def load_example(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load_example


@pytest.fixture
def examples(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The scripts can be imported; they take one thread, and other tests get theirs back."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


class SmallShards(NamedTuple):
    """What small shards hold."""

    crop: int = 64
    crops: int = 2
    variants: int = 2


@pytest.fixture
def small_shards(examples: None, monkeypatch: pytest.MonkeyPatch) -> SmallShards:
    """Few and small pairs, made in this process: their bytes do not depend on the workers."""
    from comparison import arms, runs

    run, small = SynthRun.run, SmallShards()
    monkeypatch.setattr(SynthRun, "run", lambda self, **_: run(self, workers=0, progress=False))
    monkeypatch.setattr(arms, "CROPS_PER_IMAGE", small.crops)
    monkeypatch.setattr(arms, "SynthSettings", lambda **given: SynthSettings(**{**given, "variants": small.variants}))
    for module in (arms, runs):
        monkeypatch.setattr(module, "HR_CROP", small.crop)
    return small


@pytest.fixture
def plain_metrics(examples: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Callables in the place of pyiqa's metrics."""
    from comparison import scores

    plain = {"niqe": lambda image: image.std(), "gmsd": lambda sr, hr: (sr - hr).abs().mean()}
    monkeypatch.setattr(
        scores, "load_scorers", lambda names: {name.partition("=")[0]: plain[name[:4]] for name in names}
    )


@pytest.fixture
def small_students(examples: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny students, whose start is trained for two steps."""
    from comparison import student
    from degrade.training.config_file import with_settings
    from upsample.training.config import preset

    off = dict.fromkeys(("loss.distill", "loss.inverse", "loss.adversarial_hr", "cycle.weight"), 0.0)
    small = {"schedule.hr_crop": SmallShards().crop, "schedule.batch_size": 2, "loss.perceptual": 0.1}
    plain = with_settings(preset("ci", "colearn"), {**small, **off})
    tiny = partial(student.ResidualShiftUpsampler, widths=(8, 8, 8), blocks=1, embedding_dim=8)
    for name, value in {"PLAIN": plain, "BASE_STEPS": 2, "ResidualShiftUpsampler": tiny}.items():
        monkeypatch.setattr(student, name, value)


@pytest.fixture
def degrader(tmp_path: Path, tiny_degrader) -> str:
    tiny_degrader.save_pretrained(tmp_path / "degrader")
    return str(tmp_path / "degrader")


@pytest.fixture
def in_turn() -> Callable[..., None]:
    """`run_all` in this process."""

    def run_all(function: Callable[..., Any], calls: list[tuple[Any, ...]], **_: object) -> None:
        for call in calls:
            function(*call)

    return run_all


@pytest.fixture
def deciding(
    monkeypatch: pytest.MonkeyPatch, small_students: None, small_shards: SmallShards, plain_metrics: None, in_turn
) -> ModuleType:
    """deciding_table.py with small networks, and all in this process."""
    import deciding_table
    from comparison import compact_network

    monkeypatch.setattr(compact_network, "SIZES", {"small": (24, 6), "compact": (8, 2)})
    monkeypatch.setattr(deciding_table, "run_all", in_turn)
    return deciding_table
