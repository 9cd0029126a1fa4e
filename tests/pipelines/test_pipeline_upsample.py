import json

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.pipeline_upsample import UpsamplePipeline


def seeds(*numbers: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(number) for number in numbers]


@pytest.fixture
def pipeline(tiny_upsampler) -> UpsamplePipeline:
    pipeline = UpsamplePipeline(tiny_upsampler)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_kinds_of_images_agree(pipeline, photographs) -> None:
    photo = photographs["coffee"][:24, :33]
    as_pil = pipeline(Image.fromarray(photo)).images[0]
    as_numpy = pipeline(photo / 255.0, output_type="np").images[0]
    as_tensor = pipeline(torch.from_numpy(photo).permute(2, 0, 1).float() / 255, output_type="pt").images[0]
    assert as_pil.size == (132, 96) and as_numpy.shape == (96, 132, 3) and as_tensor.shape == (3, 96, 132)
    assert np.abs(np.asarray(as_pil) / 255 - as_numpy).max() <= 0.5 / 255 + 1e-6
    assert np.allclose(as_numpy, as_tensor.permute(1, 2, 0).numpy(), atol=1e-5)


def test_grey_becomes_rgb(pipeline) -> None:
    sr = pipeline(Image.new("L", (17, 9), 128)).images[0]
    assert sr.size == (68, 36) and sr.mode == "RGB"


def test_it_is_the_model_with_its_own_steps_unless_told(pipeline, tiny_upsampler) -> None:
    lr = torch.rand(2, 3, 12, 9)
    with torch.no_grad():
        assert torch.equal(pipeline(lr, output_type="pt").images, tiny_upsampler(lr))
        assert torch.equal(pipeline(lr, 4, output_type="pt").images, tiny_upsampler(lr, steps=4))
    assert not torch.equal(tiny_upsampler(lr, steps=4), tiny_upsampler(lr))


def test_detail_is_that_of_the_model_with_or_without_tiles(detail_upsampler) -> None:
    pipeline, lr = UpsamplePipeline(detail_upsampler), torch.rand(1, 3, 12, 9)
    for detail in (None, 0.0, 1.0):
        with torch.no_grad():
            fixed = detail_upsampler(lr, detail=detail)
            drawn = detail_upsampler(lr, detail=detail, generator=seeds(1)[0])
        assert torch.equal(pipeline(lr, output_type="pt", detail=detail).images, fixed)
        assert torch.equal(pipeline(lr, generator=seeds(1)[0], output_type="pt", detail=detail).images, drawn)


@pytest.mark.parametrize("output_type", ["pil", "np", "pt"])
def test_images_of_a_list_may_differ_in_size_and_come_out_in_their_order(pipeline, output_type) -> None:
    lr = [torch.rand(3, 8, 8), torch.rand(3, 5, 9), torch.rand(3, 8, 8)]
    together = pipeline(lr, output_type=output_type).images
    alone = [pipeline(one, output_type=output_type).images[0] for one in lr]
    assert isinstance(together, list)
    assert all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in zip(together, alone, strict=True))


def test_images_of_a_list_of_one_size_come_out_as_a_batch(pipeline) -> None:
    lr = torch.rand(3, 3, 8, 6)
    listed = pipeline(list(lr), output_type="pt", return_dict=False)[0]
    assert torch.allclose(listed, pipeline(lr, output_type="pt").images, atol=1e-6)
    assert pipeline([one.permute(1, 2, 0).numpy() for one in lr], output_type="np").images.shape == (3, 32, 24, 3)


def test_generators_belong_to_their_images_whether_in_a_batch_or_in_a_list(pipeline) -> None:
    lr = torch.rand(1, 3, 8, 8).expand(2, -1, -1, -1)
    batch = pipeline(lr, generator=seeds(1, 2), output_type="pt").images
    listed = pipeline(list(lr), generator=seeds(1, 2), output_type="pt").images
    assert torch.allclose(batch, listed, atol=1e-6)
    assert not torch.allclose(batch[0], batch[1], atol=1e-3)


def test_one_generator_draws_another_noise_for_every_image_of_a_list(pipeline) -> None:
    first, second = pipeline([torch.zeros(3, 8, 8)] * 2, generator=seeds(0)[0], output_type="pt").images
    assert not torch.allclose(first, second, atol=1e-3)


def test_too_few_generators_are_told(pipeline) -> None:
    with pytest.raises(ValueError, match="2 generators for 3 images; pass one, or one for each"):
        pipeline([torch.rand(3, 8, 8)] * 3, generator=seeds(0, 1))


def test_a_list_shows_its_progress_unless_that_is_switched_off(pipeline, capsys) -> None:
    pipeline([Image.new("RGB", (8, 8))] * 3)
    assert not capsys.readouterr().err
    pipeline.set_progress_bar_config(disable=False)
    pipeline([Image.new("RGB", (8, 8))] * 3)
    assert "3/3" in capsys.readouterr().err


def test_saved_pipeline_loads_and_gives_the_same_image(pipeline, tmp_path) -> None:
    pipeline.save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["upsampler"] == ["upsample.model", "ResidualShiftUpsampler"]  # a file format: these must not move
    again = UpsamplePipeline.from_pretrained(tmp_path)
    photo = Image.effect_noise((20, 16), 50).convert("RGB")
    one, two = (p(photo, num_inference_steps=2).images[0] for p in (pipeline, again))
    assert one.tobytes() == two.tobytes()


def test_8_bit_numpy_is_refused_with_the_way_out(pipeline) -> None:
    for image in (np.zeros((8, 8, 3), np.uint8), [np.zeros((8, 8, 3), np.uint8)]):
        with pytest.raises(ValueError, match=r"image / 255\.0"):
            pipeline(image)


def test_a_large_image_is_upscaled_in_tiles(tiny_upsampler, normal, monkeypatch) -> None:
    seen = []
    forward = tiny_upsampler.forward
    monkeypatch.setattr(tiny_upsampler, "forward", lambda lr, **kw: seen.append(lr.shape[-1]) or forward(lr, **kw))
    lr = normal(0, 1, 3, 48, 300).sigmoid()
    tiled, whole = (UpsamplePipeline(tiny_upsampler)(lr, output_type="pt", tile=tile).images for tile in (64, 0))
    assert max(seen[:-1]) == 64 and seen[-1] == 300
    assert (tiled - whole).abs().max() < 0.02
