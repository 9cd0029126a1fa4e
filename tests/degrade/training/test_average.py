import pytest
import torch
from torch import nn

from degrade.training.average import moving_average


@pytest.mark.parametrize("decay", [0.2, 0.999])
def test_a_moving_average_begins_with_the_first_weights_and_keeps_more_of_itself_with_every_update(decay) -> None:
    network, weights = nn.Linear(1, 1, bias=False), [3.0, 5.0, -1.0, 8.0]
    average = moving_average(network, decay)
    expected = weights[0]
    for n, weight in enumerate(weights):
        nn.init.constant_(network.weight, weight)
        average.update_parameters(network)
        keep = min(decay, (1 + n) / (10 + n)) if n else 0.0
        expected = keep * expected + (1 - keep) * weight
        assert average.module.weight.item() == pytest.approx(expected, rel=1e-6)
    assert network.weight.item() == weights[-1]


def test_an_average_of_weights_that_stay_is_those_weights_exactly_and_buffers_follow() -> None:
    network = nn.BatchNorm1d(4)
    average = moving_average(network, 0.999)
    torch.nn.init.normal_(network.weight)
    for _ in range(5):
        network(torch.randn(8, 4))
        average.update_parameters(network)
    assert all(torch.equal(tensor, average.module.state_dict()[name]) for name, tensor in network.state_dict().items())
