import json

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.pipeline_degrade import DegradePipeline


def test_kinds_of_images_agree(tiny_degrader, photographs) -> None:
    pipeline = DegradePipeline(tiny_degrader)
    photo = photographs["coffee"][:128, :96]
    code = torch.zeros(1, 16)

    def run(image, **options):
        return pipeline(image, code=code, generator=torch.Generator().manual_seed(0), **options).images

    as_pil = np.asarray(run(Image.fromarray(photo))[0]) / 255
    as_numpy = run(photo / 255.0, output_type="np")[0]
    as_tensor = run(torch.from_numpy(photo).permute(2, 0, 1).float() / 255, output_type="pt")[0]
    assert as_numpy.shape == (32, 24, 3)
    assert np.abs(as_pil - as_numpy).max() <= 0.5 / 255 + 1e-6
    assert np.allclose(as_numpy, as_tensor.permute(1, 2, 0).numpy(), atol=1e-5)


def test_sides_that_do_not_fit_are_padded_and_grey_becomes_rgb(tiny_degrader) -> None:
    lr = DegradePipeline(tiny_degrader)(Image.new("L", (67, 62), 128)).images[0]
    assert lr.size == (17, 16) and lr.mode == "RGB"


def test_a_reference_gives_its_look_to_a_batch(tiny_degrader) -> None:
    pipeline = DegradePipeline(tiny_degrader)
    hr, reference = torch.rand(2, 3, 64, 64), torch.rand(1, 3, 24, 24)
    seeds = [torch.Generator().manual_seed(i) for i in range(2)]
    lr = pipeline(hr, reference=reference, generator=seeds, output_type="pt", return_dict=False)[0]
    seeds = [torch.Generator().manual_seed(i) for i in range(2)]
    assert torch.allclose(lr, tiny_degrader(hr, reference=reference, generator=seeds), atol=1e-6)


def test_saved_pipeline_loads_and_gives_the_same_image(tiny_degrader, tmp_path) -> None:
    pipeline = DegradePipeline(tiny_degrader)
    pipeline.save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["degrader"] == ["degrade.degrader", "RealisticDegrader"]  # a file format: these paths must not move
    again = DegradePipeline.from_pretrained(tmp_path)
    photo = Image.effect_noise((64, 64), 50).convert("RGB")
    one, two = (
        p(photo, generator=torch.Generator().manual_seed(1), num_inference_steps=2).images[0] for p in (pipeline, again)
    )
    assert one.tobytes() == two.tobytes()


def test_8_bit_numpy_is_refused_with_the_way_out(tiny_degrader) -> None:
    with pytest.raises(ValueError, match=r"image / 255\.0"):
        DegradePipeline(tiny_degrader)(np.zeros((64, 64, 3), np.uint8))
