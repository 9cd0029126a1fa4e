"""What our imports and commands load and print where optional packages of diffusers are installed beside them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from degrade.images.codec import encode_image

ROOT = Path(__file__).parent.parent
OPTIONAL = ("bitsandbytes", "flash_attn", "gguf", "kernels", "optimum", "peft", "torchao", "transformers", "xformers")
HEAVY = (
    "torch._dynamo", "sympy", "kornia", "av", "webdataset", "tensorboard", "matplotlib", "torchvision", "ray", "s3fs",
)  # fmt: skip


def fresh(code: str, *args: object, beside: Path | None = None) -> str:
    """Run code in a new interpreter that must print nothing on stderr; `beside` holds packages installed beside it."""
    path = [str(folder) for folder in (ROOT, beside, os.environ.get("PYTHONPATH")) if folder]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, args)],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def stubs(folder: Path, names: tuple[str, ...]) -> Path:
    """Packages that are installed, as far as metadata tells, and that print a line and fail when they are imported."""
    for name in names:
        info = folder / f"{name}-99.0.dist-info"
        for made in (folder / name, info):
            made.mkdir(parents=True)
        code = f"import sys\nprint('a line of {name}', file=sys.stderr)\nraise RuntimeError('{name} was imported')\n"
        (folder / name / "__init__.py").write_text(code)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 99.0\n")
        (info / "top_level.txt").write_text(f"{name}\n")
    return folder


def test_networks_load_neither_optional_packages_nor_the_compiler_and_print_nothing(tmp_path: Path) -> None:
    out = fresh(
        "import sys, tempfile, torch\n"
        "from degrade import RealisticDegrader\n"
        "from upsample import ResidualShiftUpsampler\n"
        "for kind, size in ((RealisticDegrader, 64), (ResidualShiftUpsampler, 16)):\n"
        "    network = kind.from_pretrained('tiny-x4').eval()\n"
        "    with torch.inference_mode(): network(torch.rand(1, 3, size, size))\n"
        "print([name for name in sys.argv[1:] if name in sys.modules])\n"
        "network.save_pretrained(tempfile.mkdtemp())",
        *OPTIONAL,
        *HEAVY,
        beside=stubs(tmp_path, OPTIONAL),
    )
    assert out == "[]\n"


def test_diffusers_finds_the_optional_packages_afterwards_and_imports_them_when_asked(tmp_path: Path) -> None:
    out = fresh(
        "import contextlib, io\n"
        "from degrade import RealisticDegrader\n"
        "from diffusers.utils import is_bitsandbytes_available, is_peft_available, is_transformers_available\n"
        "print(is_bitsandbytes_available(), is_peft_available(), is_transformers_available())\n"
        "for package in ('quantizers', 'quantizers', 'hooks'):\n"  # what failed once must fail again, not be half there
        "    with contextlib.redirect_stderr(io.StringIO()):\n"
        "        try: exec(f'from diffusers.{package} import DiffusersAutoQuantizer')\n"
        "        except RuntimeError as err: print(err)",
        beside=stubs(tmp_path, ("bitsandbytes", "peft", "transformers")),
    )
    assert out.splitlines() == [
        "True True True",
        *["bitsandbytes was imported"] * 2,
        "peft was imported",
    ]


@pytest.mark.parametrize(
    "first",
    [
        "",
        "from diffusers import UNet2DModel",
        *(pytest.param(each, marks=pytest.mark.slow) for each in ("import diffusers", "import torch._dynamo")),
    ],
)
def test_diffusers_works_as_ever_whichever_is_imported_first(first: str) -> None:
    fresh(
        f"{first}\n"
        "from degrade import RealisticDegrader, ResidualShiftScheduler\n"
        "import diffusers, torch\n"
        "import diffusers.models.modeling_utils as models, diffusers.quantizers as quantizers\n"
        "assert issubclass(RealisticDegrader, (diffusers.ModelMixin, diffusers.ConfigMixin))\n"
        "assert issubclass(ResidualShiftScheduler, diffusers.SchedulerMixin)\n"
        # a quantizer
        "assert not hasattr(quantizers, 'Unheard') and quantizers.PipelineQuantizationConfig\n"
        "class Own(quantizers.DiffusersQuantizer): __abstractmethods__ = frozenset()\n"
        "Own.__abstractmethods__ = frozenset()\n"
        "own = object.__new__(Own)\n"
        "assert isinstance(own, models.DiffusersQuantizer) and not isinstance(1, models.DiffusersQuantizer)\n"
        "try: models.DiffusersAutoQuantizer.from_config({'quant_method': 'unheard'})\n"
        "except ValueError as err: assert 'unheard' in str(err)\n"
        "method = quantizers.quantization_config.QuantizationMethod.GGUF\n"
        "assert models.QuantizationMethod.GGUF is method\n"
        # hooks, and the compiler
        "blocks = {'block_out_channels': (8, 8), 'norm_num_groups': 4, 'attention_head_dim': 4}\n"
        "network = diffusers.UNet2DModel(8, **blocks, layers_per_block=1,\n"
        "    down_block_types=('DownBlock2D', 'AttnDownBlock2D'), up_block_types=('AttnUpBlock2D', 'UpBlock2D'))\n"
        "network.enable_layerwise_casting(torch.float16, torch.float32)\n"
        "x = torch.rand(1, 3, 8, 8)\n"
        "assert network.to('cpu')(x, 1).sample.shape == x.shape and network.dtype == torch.float32\n"
        "assert torch.compile(torch.nn.SiLU(), backend='eager')(x).shape == x.shape"
    )


def test_threads_that_ask_for_a_quantizer_at_once_all_get_it() -> None:
    out = fresh(
        "from concurrent.futures import ThreadPoolExecutor\n"
        "from degrade import RealisticDegrader\n"
        "import diffusers.quantizers as quantizers\n"
        "with ThreadPoolExecutor(8) as pool:\n"
        "    found = list(pool.map(lambda _: quantizers.DiffusersAutoQuantizer, range(8)))\n"
        "print(len(set(found)), len(found))"
    )
    assert out == "1 8\n"


@pytest.mark.parametrize(
    ("degrader", "spared"), [("none", ("diffusers", "accelerate", "huggingface_hub")), ("tiny-x4", ())]
)
def test_a_worker_of_synth_loads_what_it_works_with_and_no_more(degrader: str, spared: tuple[str, ...]) -> None:
    out = fresh(
        "import sys, torch, degrade.synth.local\n"
        "from degrade.recipes.recipe import Recipe\n"
        "from degrade.synth.job import resolve_job\n"
        "from degrade.synth.settings import SynthSettings\n"
        "settings = SynthSettings(recipe=Recipe.preset('real-esrgan').to_dict())\n"
        "mix = resolve_job(settings, degrader=sys.argv[1], reference_dir=None).mix()\n"
        "mix.degrade_exactly(torch.rand(8, 3, 64, 64), mix.draw(range(8)))\n"
        "print([name for name in sys.argv[2:] if name in sys.modules])",
        degrader,
        *HEAVY,
        *OPTIONAL,
        *spared,
    )
    assert out == "[]\n"


@pytest.mark.parametrize(
    "command",
    [
        "degrade synth --hr-dir {photos} --out {out} --crop-size 128 --workers 1",
        "degrade train --hr-dir {photos} --recipe bicubic --out {out} --preset ci --steps 1 --device cpu",
        "upsample run --input {photos} --output {out} --device cpu",
    ],
)
def test_commands_print_no_line_of_another_package(command: str, tmp_path: Path, photographs) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "coffee.png").write_bytes(encode_image(photographs["coffee"][:160, :160], "png"))
    name, *args = command.format(photos=photos, out=tmp_path / "out").split()
    # xformers is left out: attention, which `ModelMixin.to` imports, does import it
    beside = stubs(tmp_path / "beside", tuple(package for package in OPTIONAL if package != "xformers"))
    fresh(f"from cli.{name}_commands import main; main()", *args, "--device", "cpu", beside=beside)
