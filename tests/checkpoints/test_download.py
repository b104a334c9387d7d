"""Checkpoints named by URL are fetched once and read as strictly as local files."""

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from mmquad.backbones import QuadMamba
from mmquad.checkpoints import CheckpointFileError, CheckpointMismatchError
from mmquad.checkpoints.download import cached_path, read_checkpoint_from

ARCH = {"dim": 16, "depths": (1, 1, 1, 1), "ssm_ratio": 1.0}


class Handler(SimpleHTTPRequestHandler):
    requests: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.requests.append(self.path)
        super().do_GET()

    def log_message(self, *args: object) -> None: ...


@pytest.fixture
def served(tmp_path: Path, monkeypatch) -> Iterator[tuple[Path, str]]:
    """A folder and the URL it is served at; what is fetched goes elsewhere in ``tmp_path``."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setattr(Handler, "requests", [])
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    folder = tmp_path / "served"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def save_classifier(path: Path, seed: int = 0) -> QuadMamba:
    torch.manual_seed(seed)
    model = QuadMamba(ARCH, out_indices=(3,))
    weights = {f"backbone.{key}": value for key, value in model.state_dict().items()}
    torch.save({"state_dict": {**weights, "head.fc.bias": torch.zeros(3)}}, path)
    return model


def pretrained(checkpoint: str) -> QuadMamba:
    model = QuadMamba(
        ARCH, init_cfg={"type": "Pretrained", "checkpoint": checkpoint, "prefix": "backbone."}
    )
    model.init_weights()
    return model


def test_backbone_takes_weights_from_a_url_and_fetches_once(served):
    folder, url = served
    original = save_classifier(folder / "weights.pth").state_dict()
    for _ in range(2):
        loaded = pretrained(f"{url}/weights.pth").state_dict()
        assert all(torch.equal(loaded[key], value) for key, value in original.items())
    assert Handler.requests == ["/weights.pth"]


def test_equal_names_of_different_addresses_stay_apart(served):
    folder, url = served
    for name in ("a", "b"):
        (folder / name).mkdir()
        torch.save({"weight": torch.full((2,), float(ord(name)))}, folder / name / "weights.pth")
    values = [read_checkpoint_from(f"{url}/{name}/weights.pth")["weight"][0] for name in ("a", "b")]
    assert values == [ord("a"), ord("b")]


def test_weights_that_do_not_fit_are_refused(served):
    folder, url = served
    torch.save({"state_dict": {"backbone.stem.weight": torch.zeros(3)}}, folder / "other.pth")
    with pytest.raises(
        CheckpointMismatchError, match=r"http://.*/other.pth does not fit QuadMamba"
    ):
        pretrained(f"{url}/other.pth")


def test_a_page_instead_of_weights_is_not_kept(served):
    folder, url = served
    address = f"{url}/weights.pth"
    (folder / "weights.pth").write_text("<!DOCTYPE html><title>Log in</title>")
    with pytest.raises(CheckpointFileError, match=r"cannot be used: .* an HTML page"):
        read_checkpoint_from(address)
    assert not cached_path(address).exists()
    save_classifier(folder / "weights.pth")
    assert "head.fc.bias" in read_checkpoint_from(address)["state_dict"]


def test_objects_that_run_code_are_refused(served):
    folder, url = served
    torch.save({"weight": torch.zeros(1), "hook": threading.Event}, folder / "weights.pth")
    with pytest.raises(CheckpointFileError, match="neither tensors nor plain containers"):
        read_checkpoint_from(f"{url}/weights.pth")


def test_a_truncated_file_is_refused(served):
    folder, url = served
    save_classifier(folder / "weights.pth")
    content = (folder / "weights.pth").read_bytes()
    (folder / "weights.pth").write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointFileError, match="truncated or damaged"):
        read_checkpoint_from(f"{url}/weights.pth")


def test_what_cannot_be_fetched_is_said(served):
    _, url = served
    with pytest.raises(CheckpointFileError, match=r"(?s)absent.pth cannot be fetched.*404"):
        read_checkpoint_from(f"{url}/absent.pth")
    with pytest.raises(CheckpointFileError, match="http, https and file URLs, got s3://bucket"):
        read_checkpoint_from("s3://bucket/weights.pth")


def test_file_urls_are_read_in_place(tmp_path: Path):
    path = tmp_path / "my weights.pth"
    torch.save({"weight": torch.ones(2)}, path)
    for source in (path.as_uri(), str(path)):
        assert read_checkpoint_from(source)["weight"].sum() == 2


def test_a_cache_that_cannot_be_written_is_said(served, tmp_path: Path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "file"))
    with pytest.raises(CheckpointFileError, match=r"(?s)NotADirectoryError.*TORCH_HOME"):
        read_checkpoint_from(f"{served[1]}/weights.pth")
