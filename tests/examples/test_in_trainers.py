"""The examples for other trainers, against stand-ins with the names and signatures that they take from the trainers."""

import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

Load = Callable[[str], ModuleType]
CROP, SCALE = 64, 4


class Registry:
    """Keeps classes by their names, as MODEL_REGISTRY of the three trainers does."""

    def __init__(self) -> None:
        self.classes: dict[str, type] = {}

    def register(self) -> Callable[[type], type]:
        def keep(kind: type) -> type:
            self.classes[kind.__name__] = kind
            return kind

        return keep

    def get(self, name: str) -> type:
        return self.classes[name]


class Model:
    """Takes pairs, as SRModel of BasicSR and of traiNNer-redux and ``image`` of neosr do."""

    def __init__(self, opt: Any) -> None:
        self.opt = opt
        self.device = torch.device("cpu")
        self.is_train = True

    def feed_data(self, data: dict[str, Any]) -> None:
        self.lq = data["lq"].to(self.device)
        if "gt" in data:
            self.gt = data["gt"].to(self.device)


def provide(monkeypatch: pytest.MonkeyPatch, name: str, **content: Any) -> ModuleType:
    """Make a module importable under a dotted name, with all its parents."""
    parts = name.split(".")
    for depth in range(1, len(parts) + 1):
        path = ".".join(parts[:depth])
        if path not in sys.modules:
            module = ModuleType(path)
            module.__path__ = []  # type: ignore[attr-defined]
            monkeypatch.setitem(sys.modules, path, module)
            if depth > 1:
                monkeypatch.setattr(sys.modules[".".join(parts[: depth - 1])], parts[depth - 1], module, raising=False)
    vars(sys.modules[name]).update(content)
    return sys.modules[name]


def basicsr(load: Load, monkeypatch: pytest.MonkeyPatch, scale: int) -> Model:
    registry = Registry()
    provide(monkeypatch, "basicsr.models.sr_model", SRModel=Model)
    provide(monkeypatch, "basicsr.utils.registry", MODEL_REGISTRY=registry)
    load("in_basicsr")
    return registry.get("LearnedDegraderModel")({"scale": scale, "gt_size": CROP})


def neosr(load: Load, monkeypatch: pytest.MonkeyPatch, scale: int) -> Model:
    registry = Registry()
    provide(monkeypatch, "neosr.models.image", image=Model)
    provide(monkeypatch, "neosr.utils.registry", MODEL_REGISTRY=registry)
    load("in_neosr")
    kind = registry.get("LearnedDegraderModel")
    return kind({"scale": scale, "datasets": {"train": {"patch_size": CROP // scale}}})


def trainner_redux(load: Load, monkeypatch: pytest.MonkeyPatch, scale: int) -> Model:
    models = provide(monkeypatch, "traiNNer.models", RealESRGANModel=None)
    provide(monkeypatch, "traiNNer.models.sr_model", SRModel=Model)
    provide(monkeypatch, "traiNNer.utils.redux_options", ReduxOptions=SimpleNamespace)
    load("in_trainner_redux")
    opt = SimpleNamespace(scale=scale, datasets={"train": SimpleNamespace(gt_size=CROP)}, high_order_degradation=True)
    return models.RealESRGANModel(opt)  # as its build_model does


TRAINERS = {"basicsr": basicsr, "neosr": neosr, "trainner-redux": trainner_redux}


@pytest.fixture(params=TRAINERS)
def trainer(request, load, monkeypatch) -> Iterator[Callable[..., Model]]:
    with torch.random.fork_rng(devices=[]):
        yield lambda scale=SCALE: TRAINERS[request.param](load, monkeypatch, scale)


@pytest.fixture
def hr(photographs) -> Tensor:
    crops = [photographs["coffee"][y : y + 96, 100:228] for y in (0, 80)]
    return torch.stack([torch.from_numpy(crop).permute(2, 0, 1) for crop in crops]).float() / 255


@pytest.mark.parametrize("scale", [2, 4])
def test_a_training_batch_becomes_aligned_pairs_of_8_bits(trainer, hr, scale) -> None:
    model = trainer(scale)
    torch.manual_seed(0)
    model.feed_data({"gt": hr, "gt_path": ["a.png", "b.png"], "kernel1": torch.rand(2, 21, 21)})
    assert model.gt.shape == (2, 3, CROP, CROP) and model.lq.shape == (2, 3, CROP // scale, CROP // scale)
    assert torch.equal((model.lq * 255).round() / 255, model.lq) and not model.lq.requires_grad
    clean = F.avg_pool2d(model.gt, scale)
    distance = (clean - model.lq).abs().mean()
    assert 0.002 < distance < 0.06  # degraded, but of the same patch
    assert all((clean.roll(3, side) - model.lq).abs().mean() > 1.2 * distance for side in (2, 3))


def test_the_pairs_follow_the_seed_of_the_trainer(trainer, hr) -> None:
    model, pairs = trainer(), []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        model.feed_data({"gt": hr})
        pairs.append((model.gt, model.lq))
    first, again, other = pairs
    assert all(map(torch.equal, first, again)) and not any(map(torch.equal, first, other))


def test_a_validation_batch_stays_as_it_is(trainer, hr) -> None:
    model, lq = trainer(), torch.rand(2, 3, 24, 32)
    model.feed_data({"gt": hr, "lq": lq})
    assert torch.equal(model.gt, hr) and torch.equal(model.lq, lq)
    model.feed_data({"lq": 2 * lq})
    assert torch.equal(model.lq, 2 * lq)


def test_the_default_device_of_the_trainer_does_no_harm(trainer, hr) -> None:
    pairs = []
    for default in (nullcontext(), torch.device("meta")):  # in place of cuda, which neosr makes the default
        with default:
            model = trainer()
            torch.manual_seed(0)
            model.feed_data({"gt": hr})
            pairs.append((model.gt, model.lq))
    assert all(map(torch.equal, *pairs))


def test_the_degrader_is_frozen(trainer) -> None:
    degrader = trainer().degrader
    assert not degrader.training and not any(parameter.requires_grad for parameter in degrader.parameters())
