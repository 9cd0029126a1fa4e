import pytest

from degrade.training.config_file import with_settings
from upsample.training.config import preset
from upsample.training.networks import build_upsampler

ALONE = {"loss.distill": 0.0, "loss.inverse": 0.0, "data.recipes": ("bicubic",)}


@pytest.fixture
def colearn(detail_upsampler, tmp_path):
    """Settings of a co-learning that starts from a student with a detail branch."""
    detail_upsampler.save_pretrained(tmp_path / "student")
    return with_settings(preset("ci", "colearn"), {**ALONE, "start_from": str(tmp_path / "student")})


def learning(model) -> set[str]:
    return {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad}


def test_a_branch_that_does_not_learn_is_kept_and_named(colearn, detail_upsampler) -> None:
    student, _, notes = build_upsampler(colearn)
    assert notes == [f"the detail branch of {colearn.start_from} stays as it is; --detail-branch trains it too"]
    assert learning(student) == {"time_embedding", "unet"}
    assert (student.detail_branch.to_rgb.weight == detail_upsampler.detail_branch.to_rgb.weight).all()


def test_branch_and_student_learn_together_or_the_branch_alone(colearn) -> None:
    both, _, notes = build_upsampler(with_settings(colearn, {"detail.branch": True}))
    assert learning(both) == {"time_embedding", "unet", "detail_branch"} and notes == []
    alone, _, _ = build_upsampler(with_settings(colearn, {"detail.branch": True, "student_learns": False}))
    assert learning(alone) == {"detail_branch"}


def test_a_new_branch_leaves_the_students_weights_as_they_are(colearn, tiny_upsampler, tmp_path) -> None:
    tiny_upsampler.save_pretrained(tmp_path / "plain")
    start = {"start_from": str(tmp_path / "plain"), "detail.branch": True, "detail.default": 0.25}
    student, _, _ = build_upsampler(with_settings(colearn, start))
    kept = tiny_upsampler.state_dict()
    assert all((tensor == kept[name]).all() for name, tensor in student.state_dict().items() if name in kept)
    assert student.config.detail == 0.25 and student.detail_branch.to_rgb.weight.abs().max() == 0
