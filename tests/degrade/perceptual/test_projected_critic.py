import torch

from degrade.images.tensors import to_tensor
from degrade.perceptual.pretrained_features import pretrained_features
from degrade.perceptual.projected_critic import ProjectedCritic, draw_corner
from degrade.training.losses import critic_hinge


def critic() -> ProjectedCritic:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return ProjectedCritic(pretrained_features())


def test_each_head_judges_on_its_own_grid_and_the_last_one_every_pixel() -> None:
    shapes = [logits.shape[-2:] for logits in critic()(torch.zeros(1, 3, 64, 64))]
    assert shapes == [(32, 32), (16, 16), (8, 8), (4, 4), (64, 64)]


def test_its_weights_are_those_of_the_heads_alone() -> None:
    network = critic()
    assert not any("blocks" in name for name in network.state_dict())
    sum(logits.mean() for logits in network(torch.zeros(1, 3, 32, 32))).backward()
    assert all(p.grad is not None for p in network.parameters())
    assert all(p.grad is None for p in pretrained_features().parameters())


def test_a_corner_cuts_what_is_judged() -> None:
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    network = critic().eval()
    with torch.no_grad():
        cut, whole = network(image, (3, 5)), network(image[..., 3:, 5:])
    assert all(torch.equal(a, b) for a, b in zip(cut, whole, strict=True))
    corners = {draw_corner(torch.Generator().manual_seed(seed)) for seed in range(200)}
    assert {top for top, _ in corners} == {left for _, left in corners} == set(range(16))


def test_it_learns_in_a_few_steps_to_tell_a_chequer_of_single_pixels(photographs) -> None:
    image = to_tensor(photographs["astronaut"])[..., 100:132, 100:132] * 2 - 1
    row = torch.arange(32)
    chequer = image + 0.05 * (1 - 2 * ((row[:, None] + row) % 2))
    network = critic()
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3, betas=(0.0, 0.99))
    hinges = []
    for _ in range(15):
        hinge = critic_hinge(network(image)[-1], network(chequer)[-1])  # of the head on pixels
        hinges.append(float(hinge.detach()))
        optimizer.zero_grad()
        hinge.backward()
        optimizer.step()
    assert hinges[-1] < 0.5 * hinges[0]
