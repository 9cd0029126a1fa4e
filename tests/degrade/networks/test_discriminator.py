import torch

from degrade.networks.discriminator import PatchDiscriminator


def test_critic_gives_a_verdict_per_patch_and_reads_the_code() -> None:
    critic = PatchDiscriminator(code_dim=16, width=8)
    image = torch.rand(2, 3, 32, 32)
    assert critic(image, torch.zeros(2, 16)).shape == (2, 1, 16, 16)
    assert not torch.equal(critic(image, torch.zeros(2, 16)), critic(image, torch.ones(2, 16)))


def test_critic_sees_no_further_than_its_patch() -> None:
    critic = PatchDiscriminator(width=8).double()
    image = torch.rand(1, 3, 64, 64, dtype=torch.float64, requires_grad=True)
    critic(image)[0, 0, 16, 16].backward()
    assert image.grad is not None
    rows = image.grad.abs().sum((0, 1, 3)).nonzero().flatten()
    assert int(rows.max() - rows.min()) + 1 <= 13 + 4  # the high-pass adds two pixels to each side
