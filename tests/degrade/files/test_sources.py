import io
import os
import pickle
import socket
import tarfile
from pathlib import Path

import numpy as np
import pytest

from degrade.errors import ImageError, PassedOverError
from degrade.files.sources import list_pairs, list_sources
from degrade.images.codec import encode_image, probe_image
from degrade.images.contact_sheet import encode_sheet


def picture(value: int = 0, side: int = 16) -> bytes:
    return encode_image(np.full((side, side, 3), value, np.uint8), "png")


def put(path: Path, data: bytes | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture() if data is None else data)


def tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def names(path: Path | str) -> list[str]:
    return [source.name for source in list_sources(path)]


def test_folders_are_searched_at_any_depth_by_extension(tmp_path: Path) -> None:
    for name in ("b.PNG", "a/c.jpeg", "a/deep/d.webp", ".hidden.png", ".cache/e.png", "notes.txt", "f.tif"):
        put(tmp_path / name)
    assert names(tmp_path) == ["a/c.jpeg", "a/deep/d.webp", "b.PNG", "f.tif"]


def test_names_do_not_depend_on_where_the_folder_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for root in ("one", "two/three"):
        put(tmp_path / root / "a/b.png")
    monkeypatch.chdir(tmp_path / "one")
    assert names(tmp_path / "one") == names(tmp_path / "two/three") == names(".") == ["a/b.png"]


def test_a_source_is_small_picklable_and_reads_its_bytes(tmp_path: Path) -> None:
    put(tmp_path / "a.png", picture(7))
    (source,) = list_sources(tmp_path)
    copy = pickle.loads(pickle.dumps(source))
    assert copy == source and copy.read() == picture(7) and copy.bytes_len == len(picture(7))
    assert len(pickle.dumps(source)) < 400


def test_a_file_that_shrinks_after_listing_is_noticed(tmp_path: Path) -> None:
    put(tmp_path / "a.png")
    (source,) = list_sources(tmp_path)
    put(tmp_path / "a.png", b"x")
    with pytest.raises(OSError, match="a.png has become shorter"):
        source.read()


def test_text_lists_take_relative_and_absolute_paths_and_comments(tmp_path: Path) -> None:
    for name in ("set/x.png", "set/sub dir/y.jpg", "elsewhere/z.png"):
        put(tmp_path / name)
    inside = tmp_path / "set/list.txt"
    inside.write_text(f"# photos\n\nx.png\n{tmp_path}/set/sub dir/y.jpg  # good one\nx.png\n")
    assert names(inside) == ["sub dir/y.jpg", "x.png"]
    outside = tmp_path / "set/all.txt"
    outside.write_text(f"x.png\n{tmp_path}/elsewhere/z.png\n")
    assert names(outside) == ["elsewhere/z.png", "set/x.png"]


def test_basicsr_meta_info_files_are_read(tmp_path: Path) -> None:
    for name in ("DIV2K/0001.png", "DIV2K/0002.png"):
        put(tmp_path / name)
    meta = tmp_path / "meta_info/meta_info_DIV2K.txt"  # lies beside the data, not above it
    meta.parent.mkdir()
    meta.write_text("DIV2K/0001.png (480,480,3) 1\nDIV2K/0002.png (480,480,3) 1\n")
    assert names(meta) == ["DIV2K/0001.png", "DIV2K/0002.png"]
    meta.write_text("DIV2K/0001.png, DIV2K_X4/0001x4.png\nDIV2K/0002.png, DIV2K_X4/0002x4.png\n")
    assert names(meta) == ["DIV2K/0001.png", "DIV2K/0002.png"]


def test_a_gap_in_a_list_is_found_when_read_not_before(tmp_path: Path) -> None:
    put(tmp_path / "a.png")
    (tmp_path / "list.txt").write_text("a.png\ngone.png\n")
    there, gone = list_sources(tmp_path / "list.txt")
    assert there.read() == picture() and gone.bytes_len == 0
    with pytest.raises(FileNotFoundError):
        gone.read()


def test_tars_give_their_hr_members(tmp_path: Path) -> None:
    tar(tmp_path / "x-000001.tar", {"0.hr.png": picture(3), "0.lr.png": picture(4), "0.json": b"{}"})
    tar(tmp_path / "x-000000.tar", {"0.GT.PNG": picture(1), "0.lq.png": picture(2), "0.txt": b""})
    sources = list_sources(tmp_path)
    assert [source.name for source in sources] == ["x-000000.tar/0.GT.PNG", "x-000001.tar/0.hr.png"]
    assert [source.read() for source in sources] == [picture(1), picture(3)]
    assert names(tmp_path / "x-000001.tar") == ["x-000001.tar/0.hr.png"]
    assert names(f"{tmp_path}/x-{{000000..000001}}.tar") == names(tmp_path)


def test_tars_without_roles_give_all_images_but_lr(tmp_path: Path) -> None:
    archive = tar(
        tmp_path / "x.tar", {"a/0.jpg": picture(1), "1.x.png": picture(2), "1.lr.png": picture(3), "._0.jpg": b"mac"}
    )
    assert names(archive) == ["x.tar/1.x.png", "x.tar/a/0.jpg"]


def test_headers_are_probed_in_place_in_files_and_tars(tmp_path: Path) -> None:
    tar(tmp_path / "x.tar", {"0.png": picture(side=16), "1.png": picture(side=24), "2.png": b""})
    sizes = []
    for source in list_sources(tmp_path / "x.tar")[:2]:
        info = probe_image(source.head())
        sizes.append((info.width, info.height))
    assert sizes == [(16, 16), (24, 24)]
    with pytest.raises(ImageError, match="empty"):
        probe_image(list_sources(tmp_path / "x.tar")[2].head())


def test_a_stream_on_a_member_behaves_like_a_file(tmp_path: Path) -> None:
    tar(tmp_path / "x.tar", {"0.png": picture(1), "1.png": picture(2), "2.png": picture(3)})
    with list_sources(tmp_path / "x.tar")[1].head() as stream:
        assert stream.read() == picture(2) and stream.read(5) == b""
        assert stream.seek(-4, os.SEEK_END) == len(picture(2)) - 4 and stream.read() == picture(2)[-4:]
        assert stream.seek(1) == 1 and stream.read(3) == b"PNG" and stream.tell() == 4


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda root: root / "gone", "does not exist; pass a folder of images"),
        (lambda root: root, "holds no images"),
        (lambda root: root / "empty.txt", "lists no images"),
        (lambda root: root / "prose.txt", "line 1 of .*'just words', is not the path of an image"),
        (lambda root: root / "lost.txt", "none of the 1 images of"),
        (lambda root: root / "broken.tar", "broken.tar is not a readable tar"),
        (lambda root: root / "x-{0..3}.tar", "x-0.tar does not exist"),
    ],
)
def test_nothing_to_read_is_said_in_a_sentence(tmp_path: Path, make: object, sentence: str) -> None:
    (tmp_path / "empty.txt").write_text("# nothing\n")
    (tmp_path / "prose.txt").write_text("just words\n")
    (tmp_path / "lost.txt").write_text("gone.png\n")
    path = make(tmp_path)  # type: ignore[operator]
    if path.name == "broken.tar":
        path.write_bytes(b"not a tar" * 100)
    with pytest.raises(ValueError, match=sentence):
        list_sources(path)


def test_a_truncated_tar_is_refused(tmp_path: Path) -> None:
    archive = tar(tmp_path / "x.tar", {"0.png": picture(), "1.png": os.urandom(3000)})
    archive.write_bytes(archive.read_bytes()[:3000])
    with pytest.raises(ValueError, match="x.tar is (truncated|not a readable tar)"):
        list_sources(archive)


def test_a_folder_of_images_and_tars_is_ambiguous(tmp_path: Path) -> None:
    put(tmp_path / "a.png")
    tar(tmp_path / "x.tar", {"0.png": picture()})
    with pytest.raises(ValueError, match="holds images and tars"):
        list_sources(tmp_path)


def test_two_tars_of_the_same_name_are_refused(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        tar(tmp_path / folder / "x.tar", {"0.png": picture()})
    with pytest.raises(ValueError, match="two images are called x.tar/0.png"):
        list_sources(f"{tmp_path}/{{a,b}}/x.tar")


def test_pairs_match_by_stem_scale_mark_role_and_case(tmp_path: Path) -> None:
    hr = ("same.png", "0001.png", "Canon_001_HR.png", "sub/IMG_2.PNG", "photo_HR.png")
    lr = ("same.jpg", "0001x4.png", "Canon_001_LR4.png", "sub/img_2.png", "photo_LR.png")
    for folder, files in (("hr", hr), ("lr", lr)):
        for file in files:
            put(tmp_path / folder / file)
    listing = list_pairs(tmp_path / "hr", tmp_path / "lr")
    assert {(a.name, b.name) for a, b in listing.pairs} == set(zip(hr, lr, strict=True))
    assert listing.unpaired == []


def test_images_without_a_partner_are_returned_by_name(tmp_path: Path) -> None:
    for name in ("hr/a.png", "hr/b.png", "lr/a.png", "lr/c.png", "hr/d.png", "lr/d_lr.png", "lr/dx4.png"):
        put(tmp_path / name)
    pairs, unpaired = list_pairs(tmp_path / "hr", tmp_path / "lr")
    assert [(a.name, b.name) for a, b in pairs] == [("a.png", "a.png")]
    assert [Path(line.split(" has no partner")[0]).name for line in unpaired] == [
        "b.png", "d.png", "c.png", "d_lr.png", "dx4.png"
    ]  # fmt: skip  # d could be either of two: no partner is better than a wrong one


def test_folders_that_share_no_name_are_refused(tmp_path: Path) -> None:
    put(tmp_path / "hr/a.png")
    put(tmp_path / "lr/b.png")
    with pytest.raises(ValueError, match="no image of .*hr matches one of .*lr"):
        list_pairs(tmp_path / "hr", tmp_path / "lr")


def test_one_image_is_a_source_too(tmp_path: Path) -> None:
    put(tmp_path / "photo.PNG")
    assert names(tmp_path / "photo.PNG") == ["photo.PNG"]


def test_a_link_to_a_folder_above_is_not_followed_round_and_round(tmp_path: Path) -> None:
    put(tmp_path / "a" / "b.png")
    (tmp_path / "a" / "up").symlink_to(tmp_path, target_is_directory=True)
    assert names(tmp_path) == ["a/b.png"]


def test_the_preview_beside_shards_is_not_a_source(tmp_path: Path) -> None:
    tar(tmp_path / "pairs-000000.tar", {"000.hr.png": picture(), "000.lr.png": picture()})
    put(tmp_path / "preview.png")
    assert names(tmp_path) == ["pairs-000000.tar/000.hr.png"]


def test_a_list_that_is_no_text_is_told_in_a_sentence(tmp_path: Path) -> None:
    put(tmp_path / "list.txt", b"\x93\xff\x00bin")
    with pytest.raises(ValueError, match="list.txt is not a text file; pass a folder of images"):
        list_sources(tmp_path / "list.txt")


def test_names_that_are_no_utf_8_become_text(tmp_path: Path) -> None:
    put(Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")))
    (source,) = list_sources(tmp_path)
    assert source.name == r"caf\xe9.png" and source.read() == picture()


def flaws(path: Path | str) -> dict[str, str]:
    return {source.name: source.flaw for source in list_sources(path) if source.flaw}


def test_photographs_in_formats_that_are_not_read_are_listed_with_the_reason(tmp_path: Path) -> None:
    others = ("I.HEIC", "b.heif", "c.avif", "d.jxl", "e.gif", "f.jp2", "a/g.DNG", "h.CR2", "i.nef", "k.psd")
    for name in (*others, "l.jpg_large", "m.jpg~", "notes.txt", "m.json", "m.xmp", "clip.mov", "page.svg", "n.jpe"):
        put(tmp_path / name)
    assert names(tmp_path) == sorted([*others, "l.jpg_large", "m.jpg~", "n.jpe"])
    told = flaws(tmp_path)
    assert told["I.HEIC"] == "HEIC is not read; convert it to PNG, or to JPEG of high quality"
    assert told["a/g.DNG"].startswith("camera raw is not read") and told["k.psd"].startswith("Photoshop")
    assert told["l.jpg_large"] == "a name that ends in .jpg_large is not read; rename it to end in .jpg"
    for source in list_sources(tmp_path):
        if source.name != "n.jpe":
            for use in (source.head, source.read):
                with pytest.raises(ImageError, match="is not read") as error:
                    use()
                assert not isinstance(error.value, PassedOverError)


def test_jpeg_has_many_suffixes(tmp_path: Path) -> None:
    for suffix in ("jpg", "JPEG", "jpe", "jfif", "JIF", "mpo"):
        put(tmp_path / f"a.{suffix}")
    assert len(names(tmp_path)) == 6 and not flaws(tmp_path)


@pytest.mark.parametrize(
    "folder", ["@eaDir", "#recycle", "__MACOSX", ".thumbnails", "Thumbs", "$RECYCLE.BIN", "lost+found", ".@__thumb"]
)
def test_folders_that_a_system_makes_are_named_and_not_searched(tmp_path: Path, folder: str) -> None:
    put(tmp_path / "a/b.jpg")
    put(tmp_path / "a" / folder / "b.jpg/SYNOPHOTO_THUMB_M.jpg")
    own, made = sorted(list_sources(tmp_path), key=lambda source: source.passed_over)
    assert own.name == "a/b.jpg" and made.name == f"a/{folder}" and made.flaw.startswith("a folder of ")
    with pytest.raises(PassedOverError, match="not searched"):
        made.head()
    assert names(tmp_path / "a" / folder) == ["b.jpg/SYNOPHOTO_THUMB_M.jpg"]  # it was asked for


def test_a_folder_with_nothing_else_says_what_it_passed_over(tmp_path: Path) -> None:
    put(tmp_path / "@eaDir/a.jpg")
    with pytest.raises(ValueError, match="holds no images .* but @eaDir, a folder of thumbnails, not searched; pass"):
        list_sources(tmp_path)


def test_members_of_tars_get_the_same_reasons(tmp_path: Path) -> None:
    plain = tar(tmp_path / "x.tar", {"a.png": b"", "b.heic": b"", "c.txt": b"", "@eaDir/a.png/THUMB.jpg": b""})
    assert flaws(plain).keys() == {"x.tar/b.heic", "x.tar/@eaDir/a.png/THUMB.jpg"}
    pairs = tar(tmp_path / "y.tar", {"0.hr.avif": b"", "0.lr.png": b"", "1.hr.png": b"", "1.lr.png": b"", "2.gif": b""})
    assert flaws(pairs).keys() == {"y.tar/0.hr.avif"}


def test_what_is_no_file_is_named_and_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "b.jpg"))
        (tmp_path / "c.png").symlink_to("/dev/null")
        (tmp_path / "d.png").symlink_to("gone.png")
        (tmp_path / "photos of the disk").symlink_to("/mnt/gone")
        (tmp_path / "list.txt").write_text("a.png\nd.png\n")
        put(tmp_path / "e.png")
        assert flaws(tmp_path) == {
            "a.png": "is a named pipe, not a file",
            "b.jpg": "is a socket, not a file",
            "c.png": "is a device, not a file",
            "d.png": "is a broken link",
            "photos of the disk": "is a broken link",
        }
        assert flaws(tmp_path / "a.png") == {"a.png": "is a named pipe, not a file"}
        assert flaws(tmp_path / "list.txt").keys() == {"a.png", "d.png"}
        with pytest.raises(ValueError, match="pipe is no regular file"):
            list_sources(tmp_path / "pipe")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be-mark"])
def test_lists_of_windows_are_read(tmp_path: Path, encoding: str) -> None:
    put(tmp_path / "ä/a.png")
    put(tmp_path / "ä/b.png")
    text = "ä\\a.png\r\nä/b.png\r\n"
    data = b"\xfe\xff" + text.encode("utf-16-be") if encoding == "utf-16-be-mark" else text.encode(encoding)
    (tmp_path / "list.txt").write_bytes(data)
    assert names(tmp_path / "list.txt") == ["ä/a.png", "ä/b.png"] and not flaws(tmp_path / "list.txt")


def test_one_line_of_a_list_that_cannot_be_used_costs_that_line_alone(tmp_path: Path) -> None:
    put(tmp_path / "a.png")
    put(tmp_path / "b.heic")
    (tmp_path / "list.txt").write_text("filename\na.png\n\nb.heic  # of a phone\nclip.mov\n")
    assert flaws(tmp_path / "list.txt") == {
        "b.heic": "HEIC is not read; convert it to PNG, or to JPEG of high quality",
        "line 1 of list.txt": "is not the path of an image",
        "line 5 of list.txt": "is not the path of an image",
    }


def test_a_list_of_paths_of_another_machine_names_the_first(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("C:\\photos\\a.png\n")
    with pytest.raises(ValueError, match=r"none of the 1 images .* exists, C:\\photos\\a.png first.*of this machine"):
        list_sources(tmp_path / "list.txt")


def test_a_heic_beside_its_jpeg_does_not_hide_the_pair(tmp_path: Path) -> None:
    for name in ("hr/a.jpg", "hr/a.heic", "lr/a.png"):
        put(tmp_path / name)
    pairs, unpaired = list_pairs(tmp_path / "hr", tmp_path / "lr")
    assert [(a.name, b.name) for a, b in pairs] == [("a.jpg", "a.png")]
    assert len(unpaired) == 1 and unpaired[0].startswith(f"{tmp_path}/hr/a.heic: HEIC is not read")


def test_our_own_contact_sheets_are_no_photographs(tmp_path: Path) -> None:
    put(tmp_path / "look.png", encode_sheet(np.zeros((40, 40, 3), np.uint8)))
    put(tmp_path / "a.png")
    photograph, sheet = list_sources(tmp_path)
    probe_image(photograph.head())
    for use in (sheet.head, sheet.read):
        with pytest.raises(PassedOverError, match="is a contact sheet made by this program"):
            use()
