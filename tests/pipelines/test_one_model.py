"""Both pipelines load by whatever their model loads by, and so does diffusers' own class."""

import logging

import pytest
import torch
from diffusers import DiffusionPipeline

from pipelines.pipeline_degrade import DegradePipeline
from pipelines.pipeline_upsample import UpsamplePipeline

KINDS = [(UpsamplePipeline, "tiny_upsampler", "upsampler"), (DegradePipeline, "tiny_degrader", "degrader")]


@pytest.fixture(params=KINDS, ids=["upsample", "degrade"])
def pipeline(request: pytest.FixtureRequest) -> DiffusionPipeline:
    kind, model, _ = request.param
    return kind(request.getfixturevalue(model))


def model_of(pipeline: DiffusionPipeline) -> torch.nn.Module:
    (model,) = pipeline.components.values()
    return model


def same_weights(one: DiffusionPipeline, other: DiffusionPipeline) -> bool:
    pairs = zip(model_of(one).state_dict().values(), model_of(other).state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("kind", [UpsamplePipeline, DegradePipeline])
def test_a_shipped_name_loads_offline(kind, monkeypatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    pipeline = kind.from_pretrained("tiny-x4")
    assert type(pipeline) is kind and next(model_of(pipeline).parameters()).std() > 0
    assert model_of(kind.from_pretrained("tiny-x4", torch_dtype=torch.float16)).dtype == torch.float16


@pytest.mark.parametrize("kind", [UpsamplePipeline, DegradePipeline])
def test_an_unknown_name_is_one_sentence_with_the_choices(kind) -> None:
    with pytest.raises(ValueError, match=r"no \w+ 'tiny-x9': .* use a shipped name \([^)]*tiny-x4"):
        kind.from_pretrained("tiny-x9")


def test_folders_of_the_pipeline_and_of_its_model_load(pipeline, tmp_path) -> None:
    pipeline.save_pretrained(tmp_path / "pipeline")
    model_of(pipeline).save_pretrained(tmp_path / "model")
    for place in (tmp_path / "pipeline", str(tmp_path / "model")):
        again = type(pipeline).from_pretrained(place)
        assert type(again) is type(pipeline) and same_weights(again, pipeline)


def test_diffusers_own_class_loads_a_saved_pipeline(pipeline, tmp_path) -> None:
    pipeline.save_pretrained(tmp_path)
    again = DiffusionPipeline.from_pretrained(tmp_path)
    assert type(again) is type(pipeline) and same_weights(again, pipeline)


def test_a_cast_says_nothing_about_modules_that_are_not_there(pipeline, caplog) -> None:
    logger = logging.getLogger("diffusers")
    logger.addHandler(caplog.handler)  # diffusers' loggers do not propagate
    try:
        model = model_of(pipeline)
        pipeline.to(torch.float16)
        assert model.dtype == torch.float16
        assert model.to("cpu", torch.float64).dtype == torch.float64
        assert model.half().to(torch.zeros(1)).dtype == torch.float32
        assert model.to(dtype=torch.bfloat16).to("meta").device.type == "meta" and model.dtype == torch.bfloat16
    finally:
        logger.removeHandler(caplog.handler)
    assert caplog.text == ""


def test_the_order_of_offloading_names_the_model(pipeline) -> None:
    assert set(pipeline.model_cpu_offload_seq.split("->")) == set(pipeline.components)
