"""The adapter for deepinv, against a stand-in with the parts of Physics that it uses where deepinv is not installed."""

import copy
import importlib.util
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from degrade import RealisticDegrader


class StandIn(nn.Module):
    """Stands in for deepinv.physics.Physics of version 0.5."""

    def __init__(
        self,
        A: Callable[..., Tensor] = lambda x, **_: x,  # noqa: N803
        noise_model: Callable[..., Tensor] = lambda y, **_: y,
        sensor_model: Callable[[Tensor], Tensor] = lambda y: y,
        solver: str = "gradient_descent",
        max_iter: int = 50,
        tol: float = 1e-4,
    ) -> None:
        super().__init__()
        self.noise_model, self.sensor_model = noise_model, sensor_model
        self.max_iter, self.tol = max_iter, tol

    def forward(self, x: Tensor, **parameters: Any) -> Tensor:
        return self.sensor_model(self.noise_model(self.A(x, **parameters), **parameters))

    def update_parameters(self, **parameters: Any) -> None:
        for name, value in parameters.items():
            if isinstance(value, Tensor) and hasattr(self, name):
                setattr(self, name, value.to(getattr(self, name)))

    def A_vjp(self, x: Tensor, v: Tensor) -> Tensor:  # noqa: N802
        return torch.func.vjp(self.A, x)[1](v)[0]

    def A_dagger(self, y: Tensor, x_init: Tensor | None = None) -> Tensor:  # noqa: N802
        assert x_init is not None
        x = x_init
        for _ in range(self.max_iter):
            x = x - 0.1 * self.A_vjp(x, self.A(x) - y)
            if (self.A(x) - y).square().mean() < self.tol:
                break
        return x.clone()

    def clone(self) -> "StandIn":
        return copy.deepcopy(self)


@pytest.fixture
def physics_of(load, monkeypatch) -> type[StandIn]:
    if importlib.util.find_spec("deepinv") is None:
        for name in ("deepinv", "deepinv.physics"):
            monkeypatch.setitem(sys.modules, name, ModuleType(name))
        sys.modules["deepinv.physics"].Physics = StandIn  # type: ignore[attr-defined]
    return load("in_deepinv").LearnedDegradation


@pytest.fixture
def degrader() -> RealisticDegrader:
    return RealisticDegrader.from_pretrained("tiny-x4").eval()


@pytest.fixture
def x(photographs) -> Tensor:
    crops = [photographs["coffee"][y : y + 64, 100:164] for y in (0, 80)]
    return torch.stack([torch.from_numpy(crop).permute(2, 0, 1) for crop in crops]).float() / 255


def codes(degrader: RealisticDegrader, n: int) -> Tensor:
    return degrader.sample_codes(n, generator=torch.Generator().manual_seed(0))


def test_the_operator_is_a_function_of_code_and_seed(physics_of, degrader, x) -> None:
    one, two = codes(degrader, 2).split(1)
    physics = physics_of(degrader, one, seed=5)
    y = physics(x)
    assert y.shape == (2, 3, 16, 16) and torch.equal(physics(x), y)
    assert torch.equal(physics_of(degrader, one, seed=5)(x), y)
    assert not torch.equal(physics_of(degrader, one, seed=6)(x), y)
    other = physics(x, code=two)
    assert not torch.equal(other, y)
    assert torch.equal(physics(x), other)  # deepinv keeps the parameters of the last call


def test_a_solver_may_leave_the_range_between_its_steps(physics_of, degrader, x) -> None:
    physics = physics_of(degrader, codes(degrader, 1), max_iter=3, tol=0.0)
    outside = 1.5 * x - 0.25
    assert torch.equal(physics(outside), physics(outside.clamp(0, 1)))
    gradient = physics.A_vjp(outside, torch.ones(2, 3, 16, 16))
    assert gradient.isfinite().all() and gradient[outside < 0].abs().sum() > 0
    start = outside.requires_grad_()
    distance = (physics(start) - physics(x)).square().sum()
    distance.backward()
    step = 0.1 * start.grad
    assert (physics(start.detach() - step) - physics(x)).square().sum() < distance


def test_the_pseudoinverse_starts_from_the_enlarged_image_and_comes_nearer(physics_of, degrader, x) -> None:
    physics = physics_of(degrader, codes(degrader, 1), max_iter=8, tol=0.0)
    y = physics(x)
    start = nn.functional.interpolate(y, scale_factor=4.0, mode="bicubic")
    assert (physics(physics.A_dagger(y)) - y).square().mean() < 0.95 * (physics(start) - y).square().mean()
    assert physics.A_dagger(y, x_init=x).sub(x).abs().max() < 1e-6  # nothing is left to change


def test_a_clone_is_equal_and_independent(physics_of, degrader, x) -> None:
    physics = physics_of(degrader, codes(degrader, 1))
    twin = physics.clone()
    y = physics(x)
    assert torch.equal(twin(x), y)
    twin.code.zero_()
    twin.degrader.bank.zero_()
    assert not torch.equal(twin(x), y) and torch.equal(physics(x), y) and degrader.bank.abs().sum() > 0


def test_noise_of_deepinv_comes_on_top(physics_of, degrader, x) -> None:
    physics = physics_of(degrader, codes(degrader, 1), noise_model=lambda y, **_: y + 1)
    assert torch.equal(physics(x), physics.A(x) + 1)
