"""The card beside a data set, what `datasets` makes of it, and the upload to the Hub."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import pytest
import yaml
from click.testing import CliRunner

from cli.degrade_commands import main
from degrade.files.store import DiskStore
from degrade.shards.card import MARK, write_card

SYNTH = ("--degrader", "none", "--preset", "bicubic", "--crop-size", "128", "--crops-per-image", "2",
         "--workers", "0")  # fmt: skip


def run(*arguments: object, status: int = 0) -> str:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == status, result.output
    return result.output


@pytest.fixture
def shards(photo_folder: Path, tmp_path: Path) -> Path:
    run("synth", "-i", photo_folder, "-o", tmp_path / "shards", *SYNTH)
    return tmp_path / "shards"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A Hub that remembers what it was asked for."""
    calls: list[dict[str, Any]] = []

    def create_repo(_: object, name: str, **options: Any) -> huggingface_hub.RepoUrl:
        calls.append({"create": name, **options})
        return huggingface_hub.RepoUrl(f"https://huggingface.co/datasets/{name}")

    def upload_folder(_: object, *, folder_path: Path, **options: Any) -> None:
        calls.append({"files": sorted(os.listdir(folder_path)), **options})

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", create_repo)
    monkeypatch.setattr(huggingface_hub.HfApi, "upload_folder", upload_folder)
    return calls


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("written", ["shards", "folders"])
def test_load_dataset_of_what_synth_wrote_gives_the_pairs(
    photo_folder: Path, tmp_path: Path, written: str, streaming: bool
) -> None:
    run("synth", "-i", photo_folder, "-o", tmp_path / "out", *SYNTH, "--format", written)
    pairs = datasets.load_dataset(
        str(tmp_path / "out"), split="train", streaming=streaming, cache_dir=str(tmp_path / "cache")
    )
    hr, lr = ("hr.png", "lr.png") if written == "shards" else ("hr", "lr")
    sizes = [(pair[hr].size, pair[lr].size) for pair in pairs]
    assert sizes == [((128, 128), (32, 32))] * 6


def test_the_head_of_the_card_is_what_the_hub_reads(shards: Path) -> None:
    _, head, text = (shards / "README.md").read_text().split("---\n", 2)
    card = yaml.safe_load(head)
    assert card["configs"][0]["data_files"] == [{"split": "train", "path": ["pairs-*.tar"]}]
    assert card["size_categories"] == ["n<1K"] and card["license"] == "unknown"
    assert "# 6 pairs" in text and "- recipe: bicubic" in text and "- seed: 0" in text


@pytest.mark.parametrize(
    ("pairs", "size"), [(0, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (123_456, "100K<n<1M"), (10**10, "n>1B")]
)
def test_the_size_is_one_of_the_hubs(tmp_path: Path, pairs: int, size: str) -> None:
    write_card(DiskStore(tmp_path), "shards", pairs=pairs, facts={})
    assert f"\n- {size}\n" in (tmp_path / "README.md").read_text()


def test_a_card_without_the_mark_belongs_to_its_owner(shards: Path, photo_folder: Path) -> None:
    card = shards / "README.md"
    card.write_text(card.read_text() + "more")
    run("synth", "-i", photo_folder, "-o", shards, *SYNTH)
    assert "more" not in card.read_text()  # the mark is still there, so the card is written anew
    card.write_text(card.read_text().replace(MARK, "mine"))
    mine = card.read_text()
    run("synth", "-i", photo_folder, "-o", shards, *SYNTH, "--overwrite")
    assert card.read_text() == mine


def test_a_data_set_is_uploaded_when_it_is_whole(
    shards: Path, photo_folder: Path, tmp_path: Path, hub: list[dict[str, Any]]
) -> None:
    run("synth", "-i", photo_folder, "-o", shards, *SYNTH, "--push-to-hub", "me/pairs")
    made, sent = hub
    assert made == {"create": "me/pairs", "repo_type": "dataset", "private": True, "exist_ok": True}
    assert {"README.md", "pairs-000000.tar", "manifest.json"} <= set(sent["files"])
    assert (sent["repo_id"], sent["repo_type"]) == ("me/pairs", "dataset")
    hub.clear()
    out = tmp_path / "parquet"
    for _ in range(2):  # an export that is whole already is uploaded too: the first upload may have failed
        assert "uploaded to https://" in run("export", shards, "--to", "parquet", "-o", out, "--push-to-hub", "me/p")
    assert [call.get("create") for call in hub] == ["me/p", None] * 2
    assert {"README.md", "pairs-000000.parquet"} <= set(hub[1]["files"])


def test_an_upload_that_fails_or_cannot_be_is_one_sentence(
    shards: Path, photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class ConnectError(Exception):  # of the client's HTTP library, which is no OSError
        pass

    def fail(*_: object, **__: object) -> None:
        raise ConnectError("no route\nto host")

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", fail)
    export: Callable[..., str] = lambda kind, status: run(  # noqa: E731
        "export", shards, "--to", kind, "-o", tmp_path / kind, "--push-to-hub", "me/pairs", status=status
    )
    message = export("folders", 1)
    assert "cannot be uploaded to me/pairs (no route to host)" in message and (tmp_path / "folders").is_dir()
    assert "the Hub does not read LMDBs" in export("lmdb", 2)
    assert "from a disk" in run("synth", "-i", photo_folder, "-o", "s3://x/y", *SYNTH, "--push-to-hub", "a", status=2)
