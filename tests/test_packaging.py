import os
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def fresh(code: str) -> str:
    """Run code in a new interpreter in which every warning is an error."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_degrade_is_light_and_pulls_in_nothing_above_it() -> None:
    loaded = set(fresh("import sys, degrade; print(*sys.modules)").split())
    forbidden = ("torch", "diffusers", "cv2", "pyiqa", "upsample", "pipelines", "cli")
    assert not [name for name in loaded if name.split(".")[0] in forbidden]


def test_every_public_name_is_there_and_imports_nothing_above_degrade_nor_pyiqa() -> None:
    # diffusers and its friends warn about themselves on import; ours must not
    code = (
        "import warnings; warnings.simplefilter('ignore')\n"
        "import sys, degrade\n"
        "assert [getattr(degrade, name) for name in degrade.__all__] and dir(degrade) == degrade.__all__\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not done.stderr
    assert not {"upsample", "pipelines", "cli", "pyiqa"} & {name.split(".")[0] for name in done.stdout.split()}


def test_an_unknown_name_is_an_attribute_error() -> None:
    import degrade

    with pytest.raises(AttributeError, match="no attribute 'Degrader'"):
        degrade.Degrader  # noqa: B018


def test_help_of_both_commands_imports_neither_torch_nor_diffusers() -> None:
    for module in ("degrade_commands", "upsample_commands"):
        code = (
            f"import sys; from cli.{module} import main\n"
            "try: main(['--help'])\n"
            "except SystemExit: print('MODULES', *sys.modules)"
        )
        out = fresh(code)
        assert "Usage:" in out
        loaded = out.split("MODULES")[1].split()
        assert not [name for name in loaded if name.split(".")[0] in ("torch", "diffusers", "numpy", "cv2")]


def test_layers_point_one_way() -> None:
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_code_is_clean_by_ruff_and_by_the_type_checker() -> None:
    for command in (["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"]):
        done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


def test_pipelines_and_cli_stay_namespace_packages() -> None:
    # a regular package of these common names would hide the folders of other people's checkouts (SeeSR: `pipelines/`)
    assert not (ROOT / "pipelines" / "__init__.py").exists() and not (ROOT / "cli" / "__init__.py").exists()


def test_all_four_packages_are_typed() -> None:
    assert all((ROOT / name / "py.typed").exists() for name in ("degrade", "upsample", "pipelines", "cli"))


def test_console_commands_point_to_functions_that_exist() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    ours = [EntryPoint(name, value, "console_scripts") for name, value in scripts.items()]
    assert {e.name for e in ours} == {"degrade", "upsample"} and all(callable(e.load()) for e in ours)


@pytest.mark.parametrize("package", ["degrade", "upsample"])
@pytest.mark.parametrize("place", ["working folder", "PYTHONPATH"])
@pytest.mark.parametrize("theirs", ["cli.py", "cli/__init__.py", "cli/degrade_commands.py"])
def test_commands_run_beside_modules_of_the_user_with_the_name_of_ours(
    tmp_path: Path, package: str, place: str, theirs: str
) -> None:
    (tmp_path / theirs).parent.mkdir(exist_ok=True)
    (tmp_path / theirs).write_text("raise SystemExit('not ours')\n")
    paths = [str(tmp_path), str(ROOT)] if place == "PYTHONPATH" else [str(ROOT)]
    how = [
        ["-m", package, "--help"],
        ["-c", f"import sys; sys.argv[0] = '{package}'; from {package}.__main__ import main; main()", "--help"],
    ]
    for arguments in how:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0 and "Usage:" in done.stdout and f"{package} [OPTIONS]" in done.stdout, done.stderr


def test_an_import_of_our_packages_leaves_the_name_cli_to_the_user() -> None:
    fresh("import sys, degrade, upsample; assert 'cli' not in sys.modules")


def test_shipped_weights_are_safetensors_with_a_card_and_under_16_mb() -> None:
    for folder in sorted(ROOT.glob("degrade/weights/*")) + sorted(ROOT.glob("upsample/weights/*")):
        files = {path.name: path for path in folder.iterdir()}
        weights = [path for name, path in files.items() if name.endswith(".safetensors")]
        assert len(weights) == 1 and weights[0].stat().st_size < 16e6
        assert set(files) - {weights[0].name} <= {"config.json", "README.md", "curves.png"}
        card = files["README.md"].read_text()
        assert all(word in card for word in ("Data", "CC BY-SA", "seed"))


@pytest.mark.parametrize("package", ["degrade", "upsample"])
def test_the_cards_of_tiny_x4_say_how_to_make_it_again_and_what_it_cannot_do(package: str) -> None:
    card = (ROOT / package / "weights" / "tiny-x4" / "README.md").read_text()
    assert all(word in card for word in (f"{package} train", "licence", "limit", "curves.png", "steps"))


def test_our_pipelines_are_found_beside_a_package_of_the_same_name_and_its_own_modules_stay(tmp_path) -> None:
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines" / "__init__.py").write_text("")
    (tmp_path / "pipelines" / "images.py").write_text("MINE = True")
    code = (
        f"import sys; sys.path.append({str(ROOT / 'pipelines')!r}); import realistic_degrader_pipelines\n"
        "import pipelines.images, pipelines.pipeline_degrade\n"
        "assert pipelines.images.MINE\n"
    )
    own = {"cwd": tmp_path, "env": {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, **own)
    assert done.returncode != 0 and "pipelines.images" in done.stderr  # ours needs its own images: no silent mixture
    (tmp_path / "pipelines" / "images.py").unlink()
    code = code.replace("assert pipelines.images.MINE\n", "print(pipelines.pipeline_degrade.DegradePipeline.__name__)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, **own)
    assert done.stdout.strip() == "DegradePipeline", done.stderr
