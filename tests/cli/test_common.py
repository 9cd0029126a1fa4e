"""What all commands share: the choice of the device."""

import click
import pytest
import torch

from cli.common import chosen_device


@pytest.fixture
def there(monkeypatch):
    """Pretend that these devices are there, and no others."""

    def pretend(*devices: str) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in devices)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in devices)

    return pretend


@pytest.mark.parametrize(
    ("devices", "first"), [(("cuda", "mps"), "cuda"), (("cuda",), "cuda"), (("mps",), "mps"), ((), "cpu")]
)
def test_auto_takes_the_first_device_that_is_there_and_says_which(there, capsys, devices, first) -> None:
    there(*devices)
    assert chosen_device("auto") == first
    assert capsys.readouterr() == ("", f"device: {first}\n")


@pytest.mark.parametrize(("gpus", "device"), [(True, "cuda"), (False, "cpu")])
def test_for_a_cluster_its_own_gpus_decide(there, capsys, gpus, device) -> None:
    there("mps")
    assert chosen_device("auto", cluster_gpus=gpus) == device
    assert capsys.readouterr().err == f"device: {device}\n"
    assert chosen_device("cuda:1", cluster_gpus=gpus) == "cuda:1"


def test_a_named_device_is_tried_and_taken_without_a_word(capsys) -> None:
    assert chosen_device("cpu") == "cpu" and capsys.readouterr() == ("", "")
    with pytest.raises(click.BadParameter, match="'gpu' does not work on this machine; give cpu, cuda, mps or auto"):
        chosen_device("gpu")
