"""Define Softener, a blur of the finished LR image, with a width that a code decides.

A convolutional network that paints an image pixel by pixel has to cancel the finest detail of what it is given to be
soft, and it never quite does: some of the noise at its input stays as grain. A blur at the end removes both. What a
small blur does is known, so only its width is learned.
"""

from torch import Tensor, nn

from degrade.ops.border import repeat_border

HIDDEN = 64  # width of the layer that reads a code
PASSES = 4  # of the kernel (a, 1 - 2a, a) along each axis; a is at most 1/4, so the widest blur has sigma 1.41 px


class Softener(nn.Module):
    """Blur LR images, or sharpen them a little, by an amount that is read from their codes.

    Args:
        code_dim: length of a code.
    """

    def __init__(self, code_dim: int) -> None:
        super().__init__()
        # 1x1 convolutions instead of Linear, because they give the same bits for one sample and for a batch.
        self.read = nn.Sequential(nn.Conv2d(code_dim, HIDDEN, 1), nn.SiLU(), nn.Conv2d(HIDDEN, 1, 1))
        for parameter in self.read[-1].parameters():
            nn.init.zeros_(parameter)  # so an untrained layer changes nothing

    def amount(self, code: Tensor) -> Tensor:
        """Read the weight of the neighbours in each pass from a code: (B, code_dim) -> (B,), -1/4..1/4.

        The variance of the whole blur is `PASSES` * 2 * amount, in px^2 of the LR image. Below 0 it sharpens.
        """
        return self.read(code[:, :, None, None])[:, 0, 0, 0].tanh() / 4

    def forward(self, lr: Tensor, code: Tensor) -> Tensor:
        """Blur images as their codes ask for: (B, C, h, w), (B, code_dim) -> (B, C, h, w).

        It is linear in ``lr``, whose border pixels are repeated.
        """
        amount = self.amount(code).view(-1, 1, 1, 1)
        x = repeat_border(lr, PASSES, PASSES, PASSES, PASSES)
        for _ in range(PASSES):
            x = (1 - 2 * amount) * x[..., 1:-1] + amount * (x[..., :-2] + x[..., 2:])
        for _ in range(PASSES):
            x = (1 - 2 * amount) * x[..., 1:-1, :] + amount * (x[..., :-2, :] + x[..., 2:, :])
        return x
