"""README and docs name what exists, and their code blocks run.

Every ``sh``, ``python``, ``yaml`` and ``toml`` block of `PAGES` is run in a folder of small photographs, page by page
and in order, with small defaults (`DEFAULTS`) in place of the commands' own. An HTML comment above a block, which
readers do not see, says otherwise:

    <!-- not run: reason -->   its options are checked, nothing more
    <!-- slow: reason -->      run by `pytest -m slow` only
    <!-- file: NAME -->        settings that the blocks after it read under this name
"""

import contextlib
import importlib
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest
import torch

from cli.degrade_commands import main as degrade
from cli.upsample_commands import main as upsample
from degrade.images.codec import encode_image
from degrade.recipes.recipe import ClassicalDegrader

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
CARDS = [*sorted(ROOT.glob("*/weights/*/README.md")), *sorted((ROOT / "examples").glob("RESULTS*.md"))]

COMMANDS = {"degrade": degrade, "upsample": upsample}
RUN = ("sh", "python", "yaml", "toml")  # languages of blocks that are run
SHOWN = ("text",)  # and of those that are only shown
REASONS = ("not run", "slow")
TRAINING = {
    "schedule__steps": 2,
    "schedule__batch_size": 2,
    "schedule__hr_crop": 64,
    "run__device": "cpu",
    "run__loaders": 0,
}
DEFAULTS: dict[str, dict[str, dict[str, Any]]] = {
    "degrade": {
        "synth": {"workers": 0, "crop_size": 128, "crops_per_image": 1, "device": "cpu"},
        "preview": {"crop_size": 128, "crops_per_image": 1, "device": "cpu"},
        "eval": {"crops": 16, "crop_size": 32, "seeds": 1},
        "train": TRAINING,
    },
    "upsample": {
        "run": {"device": "cpu"},
        "eval": {"classifier_steps": 2},
        "train": TRAINING,
        "fit": {"steps": 1, "device": "cpu"},
    },
}
# Options in the text that belong to other programs.
FOREIGN_OPTIONS = {"--nproc-per-node", "--no-python", "--nodes", "--dist"}


class Block(NamedTuple):
    """A fenced block of code, and the mark above it."""

    page: Path
    line: int
    language: str
    text: str
    mark: str
    reason: str

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    pattern = re.compile(r"(?:^<!-- ([a-z ]+): ([^\n]+) -->\n)?^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    text = page.read_text()
    return [
        Block(page, text.count("\n", 0, found.start(3)) + 1, found[3], found[4], found[1] or "", found[2] or "")
        for found in pattern.finditer(text)
    ]


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def lines_of(text: str) -> list[list[str]]:
    """Split a block of sh into commands, and each into words; ``$NAME`` is replaced by what the block set it to."""
    variables: dict[str, str] = {}
    commands: list[list[str]] = []
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="&>")
        lexer.whitespace_split = True
        words = list(lexer)
        if words and all(re.match(r"[A-Z_]+=", word) for word in words):
            variables |= dict(word.split("=", 1) for word in words)
            continue
        command: list[str] = []
        for word in [*words, "&&"]:
            if word == "&&":
                commands += [command] if command else []
                command = []
            elif word[0] == "$" and word[1:] in variables:
                command += shlex.split(variables[word[1:]])
            else:
                command.append(word)
    return commands


def ours_in(words: list[str]) -> list[str]:
    """The part of a command from `degrade` or `upsample` on, as after `torchrun ... --no-python`; [] without one."""
    starts = [i for i, word in enumerate(words[:-1]) if word in COMMANDS and words[i + 1] in COMMANDS[word].commands]
    return words[starts[0] :] if starts else []


def options_of(command: click.Command) -> set[str]:
    return {"--help", "-h", *(name for p in command.params for name in (*p.opts, *p.secondary_opts) if name[0] == "-")}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which README's reader stands: photographs, LR of a camera, real pairs, and shards; all small."""
    from skimage import data

    folder = tmp_path_factory.mktemp("prepared")
    degrader = ClassicalDegrader("real-esrgan-light")
    for name in ("photos", "my_camera", "held_back", "my_hr", "my_lr", "scans"):
        (folder / name).mkdir()
    for seed, name in enumerate(("astronaut", "chelsea", "coffee")):
        photograph = getattr(data, name)()[:256, :384, :3].copy()
        hr = torch.from_numpy(photograph).permute(2, 0, 1)[None] / 255
        degraded = degrader(hr, seeds=[seed])
        lr = (degraded[0].permute(1, 2, 0) * 255).round().byte().numpy()
        images = {"photos": photograph, "my_hr": photograph, "my_lr": lr, "scans": lr[:32, :32].copy()}
        for place, image in images.items():
            (folder / place / f"{name}.png").write_bytes(encode_image(image, "png"))
        for place, image in {"my_camera": photograph, "held_back": photograph[:, ::-1].copy()}.items():
            (folder / place / f"{name}.jpg").write_bytes(encode_image(image, "jpg", quality=40))
    (folder / "photo.jpg").write_bytes(encode_image(lr, "jpg", quality=95))
    (folder / "examples").symlink_to(ROOT / "examples")
    with contextlib.chdir(folder):
        run_sh("degrade synth --hr-dir photos --out shards")
    return folder


@pytest.fixture
def here(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of `prepared`, as the current folder; trainings of degraders there leave a small bank."""
    monkeypatch.setattr("degrade.training.run.BANK_BATCHES", 3)
    folder = shutil.copytree(prepared, tmp_path / "reader", symlinks=True)
    with contextlib.chdir(folder):
        yield folder


def run_sh(text: str) -> None:
    """Run a block of sh: our commands and the scripts of examples/, in this process."""
    for words in lines_of(text):
        target: str | None = None
        if ">" in words:
            *words, _, target = words
        with contextlib.ExitStack() as stack:
            if target is not None:
                stack.enter_context(contextlib.redirect_stdout(stack.enter_context(open(target, "w"))))
            if words[0] in COMMANDS:
                stack.enter_context(pytest.MonkeyPatch.context()).setattr(sys, "argv", words)
                COMMANDS[words[0]].main(words[1:], standalone_mode=False, default_map=DEFAULTS[words[0]])
            elif words[0] == "python" and words[1].startswith("examples/"):
                stack.enter_context(pytest.MonkeyPatch.context()).setattr(sys, "argv", words[1:])
                runpy.run_path(words[1], run_name="__main__")
            else:
                raise AssertionError(f"{shlex.join(words)} is not a command of ours; mark the block as 'not run'")


def run_python(text: str) -> None:
    """Run a block of Python beside the names that a reader's loop has."""
    generator = torch.Generator().manual_seed(0)
    names = {
        "hr": torch.rand(2, 3, 128, 128, generator=generator),
        "lr": torch.rand(2, 3, 32, 32, generator=generator),
        "photo": torch.rand(1, 3, 64, 64, generator=generator),
        "generator": generator,
    }
    exec(compile(text, "block", "exec"), names)


def run_block(block: Block) -> None:
    if block.language == "sh":
        run_sh(block.text)
    elif block.language == "python":
        run_python(block.text)
    else:
        assert block.mark == "file", f"{block.name}: settings that no block reads; name them by <!-- file: NAME -->"
        Path(block.reason).write_text(block.text)


def run_page(page: Path, *, slow: bool) -> None:
    for block in blocks_of(page):
        if block.language in SHOWN or block.mark == "not run" or (block.mark == "slow" and not slow):
            continue
        try:
            run_block(block)
        except BaseException as err:
            raise AssertionError(f"{block.name} fails: {err!r}") from err


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_of_a_page_runs_in_order(page: Path, here: Path) -> None:
    run_page(page, slow=False)


WITH_SLOW_BLOCKS = ("datasets", "python", "upscaling", "your-camera")


@pytest.mark.slow
@pytest.mark.parametrize("page", [ROOT / "docs" / f"{name}.md" for name in WITH_SLOW_BLOCKS])
def test_the_slow_blocks_run_too(page: Path, here: Path) -> None:
    assert any(block.mark == "slow" for block in blocks_of(page))
    run_page(page, slow=True)


def test_every_block_is_of_a_language_that_is_run_or_only_shown_and_has_a_known_mark() -> None:
    assert len(BLOCKS) > 30
    for block in BLOCKS:
        assert block.language in (*RUN, *SHOWN), f"{block.name}: say the language of the block"
        assert block.mark in ("", "file", *REASONS), f"{block.name}: unknown mark {block.mark!r}"
        assert not (block.language in SHOWN and block.mark), f"{block.name} is not run anyway"
    for page in PAGES:  # a mark that no block follows would be read as none
        marks = re.findall(r"^<!-- (?:not run|slow|file): ", page.read_text(), re.MULTILINE)
        assert len(marks) == sum(bool(block.mark) for block in blocks_of(page)), page


def test_the_blocks_that_are_not_run_are_these() -> None:
    left_out = {(block.name.split(":")[0], block.mark, block.reason) for block in BLOCKS if block.mark in REASONS}
    assert left_out == {
        ("README.md", "not run", "it installs into a new environment"),
        ("README.md", "not run", "it installs into a new environment and runs these tests"),
        ("docs/datasets.md", "not run", "it needs a cluster"),
        ("docs/datasets.md", "slow", "the network is traced for other software"),
        ("docs/measured.md", "not run", "it kills processes for many minutes"),
        ("docs/measured.md", "not run", "it needs the DRealSR photographs"),
        ("docs/measured.md", "not run", "it needs the HR photographs, and trains"),
        ("docs/measured.md", "not run", "it needs the data and many hours"),
        ("docs/measured.md", "not run", "it needs the photographs"),
        ("docs/measured.md", "not run", "it trains for half an hour and more"),
        ("docs/measured.md", "not run", "it needs those photographs"),
        ("docs/python.md", "slow", "the network is traced for other software"),
        ("docs/training.md", "not run", "it starts several processes"),
        ("docs/upscaling.md", "not run", "it takes minutes"),
        ("docs/upscaling.md", "slow", "two exporters, each compared with torch"),
        ("docs/your-camera.md", "not run", "it fits for minutes"),
        ("docs/your-camera.md", "slow", "a training, be it of one step"),
        ("docs/your-camera.md", "slow", "the report trains a classifier and an upscaler for each column"),
    }


def test_a_block_that_is_not_run_is_at_least_a_shell_script_with_our_options() -> None:
    checked = 0
    for block in (block for block in BLOCKS if block.language == "sh"):
        done = subprocess.run(["bash", "-n"], input=block.text, text=True, capture_output=True, check=False)
        assert done.returncode == 0, f"{block.name}: {done.stderr}"
        for words in map(ours_in, lines_of(block.text)):
            if words:
                known = options_of(COMMANDS[words[0]].commands[words[1]])
                given = {word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)}
                assert given <= known, f"{block.name}: `{words[0]} {words[1]}` has no {', '.join(given - known)}"
                checked += 1
    assert checked > 40


def test_the_small_defaults_are_those_of_parameters_that_exist() -> None:
    for group, commands in DEFAULTS.items():
        for name, defaults in commands.items():
            assert set(defaults) <= {param.name for param in COMMANDS[group].commands[name].params}, name


def code_spans(page: Path) -> list[str]:
    """What stands between backticks in the text of a page, outside of its blocks."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return [re.sub(r"\s+", " ", span) for span in re.findall(r"`([^`]+)`", text)]


def test_options_in_the_text_exist() -> None:
    known = set(FOREIGN_OPTIONS)
    for group in COMMANDS.values():
        known |= {option for command in group.commands.values() for option in options_of(command)}
    for script in (ROOT / "examples").rglob("*.py"):
        known |= set(re.findall(r'"(--[a-z0-9-]+)"', script.read_text()))
    named = {
        (page.name, option)
        for page in PAGES
        for span in code_spans(page)
        for option in re.findall(r"(?:^|\s)(--[a-z][a-z0-9-]*)", span)
    }
    assert len(named) > 40 and not {(page, option) for page, option in named if option not in known}


@pytest.mark.parametrize("page", [*PAGES, *CARDS], ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_are_named_exist(page: Path) -> None:
    text = page.read_text()
    ours = r"(?<![\w./-])((?:examples|degrade|upsample|pipelines|cli|tests|docs|\.ci)/[\w./-]*[\w/])"
    named = set(re.findall(ours, text)) | set(re.findall(r"(?<![\w/\[])[A-Z]{2,}\.md\b", text))
    missing = [name for name in named if not ((ROOT / name).exists() or (page.parent / name).exists())]
    assert missing == []


@pytest.mark.parametrize("page", [*PAGES, *CARDS], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path) if path else page
        assert file.exists(), target
        assert not anchor or anchor in anchors_of(file), target


def anchors_of(page: Path) -> set[str]:
    """Anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, *CARDS], ids=lambda page: str(page.relative_to(ROOT)))
def test_modules_and_names_in_the_text_exist(page: Path) -> None:
    dotted = r"(?:degrade|upsample|pipelines|cli)(?:\.[A-Za-z_]\w*)+"
    for name in {found for span in code_spans(page) for found in re.findall(rf"^{dotted}", span)}:
        assert resolves(name), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_is_said_to_be_in_a_file_is_there(page: Path) -> None:
    text = re.sub(r"\s+", " ", page.read_text())
    for names, file in re.findall(r"((?:`\w+`(?: and |, )?)+) in `([\w/]+\.py)`", text):
        for name in re.findall(r"\w+(?=`)", names):
            assert re.search(rf"^(?:def |class |){name}\b", (ROOT / file).read_text(), re.MULTILINE), (name, file)


def resolves(dotted: str) -> bool:
    parts = dotted.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            found = getattr(found, part, None)
        return found is not None
    return False


def test_pages_that_the_code_points_to_exist_and_equations_are_numbered_once() -> None:
    named = {page for file in ROOT.glob("*/**/*.py") for page in re.findall(r"docs/[\w-]+\.md", file.read_text())}
    assert not [page for page in named if not (ROOT / page).exists()]
    numbers = re.findall(r"  \((\d\.\d)\)", (ROOT / "docs" / "method.md").read_text())
    assert len(numbers) > 10 and len(numbers) == len(set(numbers))


def test_readme_and_ci_run_the_same_test_command() -> None:
    ci = (ROOT / ".ci" / "run").read_text()
    for page in ("README.md", "CONTRIBUTING.md"):
        assert "pip install -e '.[test]' && python -m pytest -n 2 --dist loadfile\n" in (ROOT / page).read_text()
    assert "'.[test]'" in ci and "\npython -m pytest -n 2 --dist loadfile\n" in ci


def test_readme_is_short_and_no_page_is_wider_than_120_columns() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120
    lines = [(page.name, n, line) for page in PAGES for n, line in enumerate(page.read_text().splitlines(), 1)]
    wide = [f"{page}:{n}" for page, n, line in lines if len(line) > 120]
    assert not wide
