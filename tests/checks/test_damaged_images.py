"""Images that a pipeline can read are good; of others it is said what is wrong with them."""

import io
import os
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch.distributed as dist
from mmengine.config import Config
from PIL import Image

from mmquad.checks import damaged_images
from mmquad.checks.damaged_images import (
    explain_unreadable_image,
    find_damaged,
    image_problem,
    pipeline_decoders,
)
from mmquad.errors import OneProcessError

draw = np.random.default_rng(0)
PIXELS = cv2.resize(draw.integers(0, 255, (6, 8, 3), dtype=np.uint8), (64, 48))


def encoded(kind: str, mode: str = "RGB", **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS).convert(mode).save(file, kind, **options)
    return file.getvalue()


def with_thumbnail() -> bytes:
    """A JPEG whose header has a complete JPEG in it, as cameras write them."""
    exif = b"Exif\0\0" + encoded("JPEG", quality=20)
    return encoded("JPEG", exif=exif)


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: a quarter turn
    return encoded("JPEG", exif=exif.tobytes())


JPEG, PNG = encoded("JPEG"), encoded("PNG")
# The tail of a motion photo: boxes of a video; and what may stand behind an image elsewhere.
VIDEO = (24).to_bytes(4, "big") + b"ftypmp42" + bytes(range(256)) * 20
GOOD = {
    "a.jpg": JPEG,
    "progressive.JPG": encoded("JPEG", progressive=True),
    "cmyk.jpeg": encoded("JPEG", "CMYK"),
    "turned.jpg": turned(),
    "thumbnail.jpg": with_thumbnail(),
    "motion.jpg": JPEG + VIDEO,
    "motion-thumbnail.jpg": with_thumbnail() + VIDEO,
    "several.jpg": JPEG + encoded("JPEG", quality=30),
    "several-cut.jpg": JPEG + encoded("JPEG", quality=30)[:-40],
    "a.png": PNG,
    "palette.PNG": encoded("PNG", "P"),
    "alpha.png": encoded("PNG", "LA"),
    "deep.png": cv2.imencode(".png", PIXELS.astype(np.uint16) * 256)[1].tobytes(),
    "metadata.png": PNG + VIDEO,
    "a.bmp": encoded("BMP"),
    "a.tif": encoded("TIFF"),
    "a.webp": encoded("WEBP"),
    "behind.webp": encoded("WEBP") + VIDEO,
    "a.ppm": encoded("PPM"),
    "Zoë 図.jpg": JPEG,
    os.fsdecode(b"latin-\xe9.jpg"): JPEG,
}


@pytest.mark.parametrize("decode", [False, True])
@pytest.mark.parametrize("name", GOOD)
def test_what_a_pipeline_reads_is_good(tmp_path: Path, name: str, decode: bool):
    path = tmp_path / name
    path.write_bytes(GOOD[name])
    assert image_problem(path, decode=decode) is None


CUT = {
    "a.jpg": JPEG[:-60],
    "end.jpg": JPEG[:-2],
    "header.jpg": JPEG[:300],
    "thumbnail.jpg": with_thumbnail()[:-60],
    "a.png": PNG[:-13],
    "half.png": PNG[: len(PNG) // 2],
    "a.webp": encoded("WEBP")[:-20],
    "end.webp": encoded("WEBP")[:-4],
    "a.bmp": encoded("BMP")[:-20],
    "a.tif": encoded("TIFF")[:-20],
    "a.ppm": encoded("PPM")[:-20],
}


@pytest.mark.parametrize("decode", [False, True])
@pytest.mark.parametrize("name", CUT)
def test_cut_off(tmp_path: Path, name: str, decode: bool):
    path = tmp_path / name
    path.write_bytes(CUT[name])
    assert image_problem(path, decode=decode) == f"cut off after {len(CUT[name]):,} bytes"


def test_a_jpeg_ends_at_its_marker_not_at_one_like_it():
    """With restarts in its coded data, and a thumbnail in its header."""
    restarts = cv2.imencode(".jpg", PIXELS, [cv2.IMWRITE_JPEG_RST_INTERVAL, 1])[1].tobytes()
    assert b"\xff\xd0" in restarts
    for content in (JPEG, restarts, with_thumbnail(), GOOD["progressive.JPG"]):
        assert damaged_images._jpeg_ends(content + VIDEO)
        assert not damaged_images._jpeg_ends(content[:-2])


def test_decoders_that_fill_what_is_missing_with_grey_do_not_hide_it(tmp_path: Path, monkeypatch):
    """As OpenCV's did up to 4.11."""
    monkeypatch.setattr(damaged_images, "_decodes", lambda *arguments: True)
    path = tmp_path / "a.jpg"
    path.write_bytes(CUT["a.jpg"])
    assert image_problem(path) == f"cut off after {len(CUT['a.jpg']):,} bytes"
    path.write_bytes(GOOD["motion.jpg"])
    assert image_problem(path) is None


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.jpg", b"", r"empty \(0 bytes\)$"),
        ("a.png", b"<html>Not found</html>", "no image but text"),
        ("a.png", b'{"error": "quota"}', "no image but text"),
        ("a.jpg", b"version https://git-lfs.github.com/spec/v1", "no image but text"),
        ("a.bmp", b"random bytes of something", "cannot be decoded .* beginning with b'random b'"),
        ("a.png", PNG.replace(b"IHDR", b"IHDX"), "cannot be decoded"),
        # whole, but its tables are gone
        ("a.jpg", JPEG.replace(b"\xff\xdb", b"\xff\xfe"), "cannot be decoded"),
        ("a.jpg", JPEG.replace(b"\xff\xdb", b"\xff\xfe") + VIDEO, "cannot be decoded"),
    ],
)
def test_other_damage(tmp_path: Path, name: str, content: bytes, problem: str):
    path = tmp_path / name
    path.write_bytes(content)
    assert re.match(problem, image_problem(path))


def test_what_is_no_file(tmp_path: Path):
    assert image_problem(tmp_path) == "a folder"
    assert image_problem(tmp_path / "absent.png") == "missing"
    (tmp_path / "link.png").symlink_to("gone/image.png")
    assert image_problem(tmp_path / "link.png") == "a link to gone/image.png, which does not exist"
    os.mkfifo(tmp_path / "pipe.png")
    assert image_problem(tmp_path / "pipe.png") == "no regular file"


def test_what_may_not_be_opened(tmp_path: Path, monkeypatch):
    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    path = tmp_path / "a.jpg"
    path.write_bytes(JPEG)
    monkeypatch.setattr("builtins.open", refuse)
    assert image_problem(path) == "cannot be opened: Permission denied"
    monkeypatch.setattr(Path, "is_file", refuse)
    assert image_problem(path) == "cannot be opened: Permission denied"


def test_the_decoder_of_the_pipeline_counts(tmp_path: Path):
    path = tmp_path / "float.tif"
    Image.fromarray(PIXELS[..., 0].astype(np.float32)).save(path)
    assert image_problem(path).endswith("imdecode_backend='pillow' can read it")
    assert image_problem(path, decoders=(("cv2", "color"), ("pillow", "color"))) is None
    assert image_problem(path, decoders=(("cv2", "unchanged"),)) is None


def load(**options) -> dict:
    return {"type": "LoadImageFromFile", **options}


def config(folder: Path, *steps: dict) -> Config:
    dataset = {"type": "CustomDataset", "data_prefix": str(folder), "pipeline": list(steps)}
    return Config({"train_dataloader": {"dataset": {"type": "RepeatDataset", "dataset": dataset}}})


def test_the_decoders_of_a_config(tmp_path: Path):
    def found(*steps: dict) -> set:
        return set(pipeline_decoders(config(tmp_path, *steps), ("train", "val")))

    assert found() == found(load()) == {("cv2", "color")}
    assert found(load(imdecode_backend="pillow")) == {("pillow", "color")}
    branches = {"type": "MultiBranch", "a": [load(color_type="unchanged")], "b": {"c": [load()]}}
    assert found(branches) == {("cv2", "unchanged"), ("cv2", "color")}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve images, the second, fourth, ... of which are empty; and another file."""
    for index in range(12):
        path = tmp_path / "images" / f"class{index // 6}" / f"{index:02d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(JPEG if index % 2 == 0 else b"")
    (tmp_path / "images/notes.txt").write_bytes(b"")
    return tmp_path / "images"


def test_a_search_says_how_far_it_went(folder: Path):
    cfg = config(folder)
    everything = find_damaged(cfg, ("train",))
    assert (everything.looked_at, everything.is_complete) == (12, True)
    assert [path.name for path in everything.damaged] == [f"{i:02d}.jpg" for i in range(1, 12, 2)]

    some = find_damaged(cfg, ("train",), most=2)
    assert (some.looked_at, some.is_complete) == (4, False)
    assert len(some.damaged) == 2

    ticks = iter(range(100))
    slow = find_damaged(cfg, ("train",), seconds=5, clock=lambda: next(ticks))
    assert (slow.looked_at, slow.is_complete) == (5, False)


def test_folders_that_cannot_be_listed_are_named(folder: Path, monkeypatch):
    scan = os.scandir

    def refuse(path):
        if str(path).endswith("class1"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = find_damaged(config(folder), ("train",)).damaged
    assert found[folder / "class1"] == "cannot be opened: Permission denied"
    assert len(found) == 4


def explanation(cfg: Config, error: Exception) -> str:
    try:
        explain_unreadable_image(error, cfg, ("train",))
    except OneProcessError as explained:
        return str(explained)
    return ""


def test_the_image_that_the_error_names_is_said_though_it_looks_whole(folder: Path):
    for path in folder.rglob("*.jpg"):
        path.write_bytes(JPEG)
    bad = folder / "class0/00.jpg"
    bad.write_bytes(JPEG.replace(b"\xff\xdb", b"\xff\xfe"))
    message = explanation(config(folder), AssertionError(f"failed to load image: {bad}"))
    assert message.startswith(f"1 image cannot be read:\n  {bad}: cannot be decoded")
    assert "Looked at all 12 images" in message


def test_errors_of_every_decoder_are_recognised(folder: Path):
    from mmcv import imfrombytes

    for backend in ("cv2", "pillow", "tifffile"):
        try:
            imfrombytes(b"", backend=backend)
        except Exception as error:
            message = explanation(config(folder), error)
            assert message.startswith("6 images cannot be read:"), backend
    assert explanation(config(folder), ValueError("something else")) == ""


class Store(dict):
    """What processes of a group share."""

    def add(self, key: str, amount: int) -> int:
        self[key] = self.get(key, 0) + amount
        return self[key]

    def set(self, key: str, value: str) -> None:
        self[key] = value

    def wait(self, keys: list[str], timeout: object) -> None:
        assert all(key in self for key in keys), "it would wait"


def test_only_one_process_searches(folder: Path, monkeypatch):
    store, searched = Store(), []

    def search(*arguments) -> damaged_images.Search:
        searched.append(arguments)
        return find_damaged(*arguments)

    monkeypatch.setattr(damaged_images, "find_damaged", search)
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist.distributed_c10d, "_get_default_store", lambda: store)

    def error(name: str) -> Exception:
        return AssertionError(f"failed to load image: {folder / name}")

    first = explanation(config(folder), error("class0/01.jpg"))
    second = explanation(config(folder), error("class1/11.jpg"))
    assert len(searched) == 1
    assert first.startswith("6 images cannot be read:")
    assert second.startswith("1 image cannot be read:")
    assert "class1/11.jpg: empty" in second
    assert "Another process" in second
