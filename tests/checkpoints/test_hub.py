"""Files of the hub: what addresses mean, the right file or an error, never another file."""

import hashlib
import io
from pathlib import Path

import pytest
import torch
from hub_cache import lay, use_cache
from mmengine.config import Config
from mmengine.runner import CheckpointLoader

from mmquad import compat
from mmquad.backbones import QuadMamba
from mmquad.checkpoints import CheckpointFileError, hub
from mmquad.checkpoints.download import cached_path, check_address, read_checkpoint_from
from mmquad.checkpoints.hub import HubFile, hub_file
from mmquad.checks.data_paths import check_checkpoints
from mmquad.errors import SetupError

ARCH = {"dim": 8, "depths": (1, 1), "ssm_ratio": 1.0, "quad_stages": (0,)}


def saved(value: float) -> bytes:
    buffer = io.BytesIO()
    torch.save({"state_dict": {"weight": torch.full((2,), value)}}, buffer)
    return buffer.getvalue()


def value_at(address: str) -> float:
    return float(read_checkpoint_from(address)["state_dict"]["weight"][1])


@pytest.fixture(params=["stand-in", "real"])
def cache(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch) -> Path:
    use_cache(tmp_path / "hub", monkeypatch, request.param)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    return tmp_path / "hub"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("hf://o/n/a.pth", HubFile("o/n", "a.pth")),
        ("hf://o/n/sub/a.pth", HubFile("o/n", "sub/a.pth")),
        ("hf://o/n@v1.0/a.pth", HubFile("o/n", "a.pth", "v1.0")),
        ("hf://o/n@refs%2Fpr%2F1/a@b.pth", HubFile("o/n", "a@b.pth", "refs/pr/1")),
        ("hf://o-1/n_2.x", HubFile("o-1/n_2.x", "model.safetensors")),
        ("hf://o/n@v1", HubFile("o/n", "model.safetensors", "v1")),
        ("https://huggingface.co/o/n/resolve/main/s/a.pth", HubFile("o/n", "s/a.pth", "main")),
        ("https://huggingface.co/o/n/blob/v1/a.pth?download=true", HubFile("o/n", "a.pth", "v1")),
        ("https://huggingface.co/o/n/tree/main/a.pth", None),
        ("https://huggingface.co/o/n/resolve/main", None),
        ("https://example.org/o/n/resolve/main/a.pth", None),
        ("http://huggingface.co/o/n/resolve/main/a.pth", None),
        ("weights/a.pth", None),
    ],
)
def test_what_addresses_name(address: str, expected: HubFile | None):
    assert hub_file(address) == expected


@pytest.mark.parametrize(
    "address",
    [
        "hf://",
        "hf://name",
        "hf:///name/a.pth",
        "hf://owner//a.pth",
        "hf://o/n@/a.pth",
        "hf://o/n//a.pth",
        "hf://o/n/../a.pth",
        "hf://o/n/s/",
        "hf://o w/n/a.pth",
    ],
)
def test_what_names_no_file_is_refused(address: str):
    for function in (hub_file, check_address, read_checkpoint_from):
        with pytest.raises(CheckpointFileError, match=r"named hf://owner/name/file.*, got hf://"):
            function(address)


def test_the_file_of_the_revision_is_read(cache: Path):
    lay(cache, "o/n", "a.pth", saved(1))
    lay(cache, "o/n", "sub/a.pth", saved(2))
    lay(cache, "o/n", "a.pth", saved(3), revision="v1")
    lay(cache, "o/m", "a.pth", saved(4))
    assert value_at("hf://o/n/a.pth") == 1
    assert value_at("hf://o/n@main/sub/a.pth") == 2
    assert value_at("hf://o/n@v1/a.pth") == 3
    assert value_at("hf://o/m/a.pth") == 4
    assert value_at("https://huggingface.co/o/n/resolve/v1/a.pth") == 3


@pytest.mark.parametrize(
    "address", ["hf://o/n/b.pth", "hf://o/n@v2/a.pth", "hf://o/m/a.pth", "hf://o/n"]
)
def test_what_is_not_in_the_cache_is_said_offline(cache: Path, address: str):
    lay(cache, "o/n", "a.pth", saved(1))
    said = r"(?s)hf://o/.* cannot be fetched, and is not in the cache \(.*hub\).*HF_HUB_OFFLINE is"
    with pytest.raises(CheckpointFileError, match=said):
        read_checkpoint_from(address)


def test_a_damaged_cache_is_found_and_removed(cache: Path):
    blob = lay(cache, "o/n", "a.pth", saved(1))
    lay(cache, "o/n", "other.pth", saved(2))
    blob.write_bytes(saved(5))  # an intact file, but another
    with pytest.raises(CheckpointFileError, match=r"damaged in the cache .*SHA-256 is not its"):
        read_checkpoint_from("hf://o/n/a.pth")
    assert not blob.exists()
    with pytest.raises(CheckpointFileError, match="is not in the cache"):
        read_checkpoint_from("hf://o/n/a.pth")
    assert value_at("hf://o/n/other.pth") == 2


def test_a_checksum_in_the_address(cache: Path, tmp_path: Path):
    content = saved(1)
    digest = hashlib.sha256(content).hexdigest()
    lay(cache, "o/n", "a.pth", content)
    local = tmp_path / "a.pth"
    local.write_bytes(content)
    for address in ("hf://o/n/a.pth", local.as_uri()):
        assert value_at(f"{address}#sha256={digest}") == 1
        assert value_at(f"{address}#sha256={digest.upper()}") == 1
        with pytest.raises(
            CheckpointFileError, match=rf"the SHA-256 of .* is {digest}, expected 00"
        ):
            read_checkpoint_from(f"{address}#sha256={'0' * 64}")
        with pytest.raises(CheckpointFileError, match="takes 64 hexadecimal digits, got '12'"):
            read_checkpoint_from(f"{address}#sha256=12")
        assert value_at(address) == 1  # whose fault it is nobody knows: both stay


def test_a_fetched_file_of_another_checksum_is_not_kept(cache: Path):
    url = "https://example.org/a.pth"
    kept = cached_path(url)
    kept.parent.mkdir(parents=True)
    kept.write_bytes(saved(1))
    assert value_at(url) == 1
    with pytest.raises(CheckpointFileError, match="another file than the one asked for"):
        read_checkpoint_from(f"{url}#sha256={'0' * 64}")
    assert not kept.exists()


def test_what_was_fetched_without_the_library_stays_in_use(cache: Path, monkeypatch):
    url = "https://huggingface.co/o/n/resolve/main/a.pth"
    lay(cache, "o/n", "a.pth", saved(2))
    assert value_at(url) == 2
    kept = cached_path(url)
    kept.parent.mkdir(parents=True)
    kept.write_bytes(saved(1))
    assert value_at(url) == 1
    monkeypatch.setattr("mmquad.checkpoints.download.can_fetch", lambda: False)
    assert value_at(url) == 1


def test_without_the_library_it_is_said_before_a_run_begins(monkeypatch):
    monkeypatch.setattr(hub, "can_fetch", lambda: False)
    for function in (check_address, read_checkpoint_from):
        with pytest.raises(CheckpointFileError, match="pip install huggingface_hub"):
            function("hf://o/n/a.pth")
    init_cfg = {"type": "Pretrained", "checkpoint": "hf://o/n/a.pth"}
    config = Config({"model": {"backbone": {"init_cfg": init_cfg}}})
    with pytest.raises(SetupError, match=r"backbone\.init_cfg\.checkpoint.*huggingface_hub"):
        check_checkpoints(config, pytest.fail, initial_weights=True)
    with pytest.raises(SetupError, match=r"to test cannot be used.*huggingface_hub"):
        check_checkpoints(
            Config({"load_from": "hf://o/n/a.pth"}), pytest.fail, initial_weights=False
        )


def test_checks_fetch_nothing(cache: Path):
    check_checkpoints(Config({"load_from": "hf://o/n/absent"}), pytest.fail, initial_weights=True)
    with pytest.raises(SetupError, match=r"key load_from.*named hf://owner/name/file"):
        check_checkpoints(Config({"load_from": "hf://o"}), pytest.fail, initial_weights=True)


@pytest.mark.parametrize(
    ("address", "loader"),
    [
        ("hf://o/n", "load_from_hub"),
        ("hf://o/n/a.safetensors", "load_from_hub"),
        (f"https://host/a.pth#sha256={'0' * 64}", "load_from_checked_url"),
        (f"https://host/a.safetensors#sha256={'0' * 64}", "load_from_checked_url"),
        ("https://huggingface.co/o/n/resolve/main/a.pth", "load_from_http"),
    ],
)
def test_mmengine_finds_the_loader(address: str, loader: str):
    compat.apply()
    assert CheckpointLoader._get_checkpoint_loader(address).__name__ == loader


def test_a_backbone_teaches_the_stock_loops(cache: Path, monkeypatch):
    """They load weights after the model is built, and call nothing of this package before."""
    lay(cache, "o/n", "a.pth", saved(7))
    schemes = {k: v for k, v in CheckpointLoader._schemes.items() if not k.startswith("hf://")}
    monkeypatch.setattr(CheckpointLoader, "_schemes", schemes)
    QuadMamba(ARCH, out_indices=(1,))
    content = CheckpointLoader.load_checkpoint("hf://o/n/a.pth", map_location="cpu")
    assert content["state_dict"]["weight"].tolist() == [7, 7]


def test_init_cfg_takes_weights_from_the_hub(cache: Path):
    original = QuadMamba(ARCH)
    buffer = io.BytesIO()
    torch.save({"state_dict": original.state_dict()}, buffer)
    lay(cache, "o/n", "a.pth", buffer.getvalue())
    loaded = QuadMamba(ARCH, init_cfg={"type": "Pretrained", "checkpoint": "hf://o/n/a.pth"})
    loaded.init_weights()
    own = loaded.state_dict()
    assert all(torch.equal(own[name], value) for name, value in original.state_dict().items())
