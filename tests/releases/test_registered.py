"""Official weights by name: the file of the table, converted, or an error."""

from pathlib import Path

import pytest
import torch
from released import SMALL, released_weights

from mmquad.backbones import QuadMamba, VisionBackbone, VMamba
from mmquad.backbones.quadmamba import QUADMAMBA_ARCHS, QuadMambaArch
from mmquad.checkpoints import CheckpointFileError, CheckpointMismatchError, file_sha256
from mmquad.checkpoints.download import cached_path
from mmquad.releases import registered
from mmquad.releases.registered import read_registered, registered_names
from mmquad.releases.table import installed_table, read_table

URL = "https://example.org/releases/small.pth"


@pytest.fixture
def row(tmp_path: Path, monkeypatch) -> dict:
    """The only row of the table; its file lies where a download would be kept."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    arch = QuadMambaArch(**SMALL | {"quad_stages": (0, 1)})
    monkeypatch.setitem(QUADMAMBA_ARCHS, "official", arch)
    path = cached_path(URL)
    path.parent.mkdir(parents=True)
    torch.save({"model": released_weights()}, path)
    row = {"file": "small.pth", "url": URL, "model": "QuadMamba", "arch": "official"}
    row |= {"config": "configs/mmpretrain/quadmamba/quadmamba-official_8xb128_in1k.py"}
    row |= {"metrics": {}, "sha256": file_sha256(path)}
    monkeypatch.setattr(registered, "read_table", lambda path: [row])
    return row


NAME = "quadmamba-official_8xb128_in1k"


def test_a_release_is_converted(row: dict):
    content = read_registered(NAME)
    assert content["state_dict"]["head.fc.weight"].shape == (5, 64)
    expected = {"source": URL, "sha256": row["sha256"], "config": row["config"], "arch": "official"}
    expected |= {"model": "QuadMamba", "settings": {"quadtree": "released"}}
    assert content["meta"] == expected
    for family in (QuadMamba, VisionBackbone):
        model = family.from_pretrained(NAME)
        assert model.settings() == {"quadtree": "released"}
        assert model.out_indices == (3,)
        norm = released_weights()["classifier.norm.weight"]
        assert torch.equal(model.norm3.weight, norm)
    with pytest.raises(CheckpointMismatchError, match=f"{NAME} holds weights of QuadMamba, not of"):
        VMamba.from_pretrained(NAME)


def test_a_path_of_the_name_comes_first(row: dict, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = QuadMamba({"dim": 8, "depths": (1,), "ssm_ratio": 1.0, "quad_stages": ()})
    own.save_pretrained(NAME)
    assert VisionBackbone.from_pretrained(NAME).depths == (1,)


@pytest.mark.parametrize("change", [{"sha256": "0" * 64}, {"arch": "small"}, {"model": "VMamba"}])
def test_another_file_than_that_of_the_table_is_refused(row: dict, change: dict):
    row |= change
    with pytest.raises((CheckpointFileError, CheckpointMismatchError)) as raised:
        read_registered(NAME)
    assert URL in str(raised.value) or str(cached_path(URL)) in str(raised.value)


def test_without_a_checksum_arch_and_model_must_be_those_of_the_table(row: dict):
    del row["sha256"]
    assert read_registered(NAME)["meta"]["arch"] == "official"
    row["model"] = "VMamba"
    with pytest.raises(CheckpointMismatchError, match="weights of QuadMamba, expected VMamba"):
        read_registered(NAME)
    row |= {"model": "QuadMamba", "arch": "small"}
    with pytest.raises(CheckpointMismatchError, match="does not fit"):
        read_registered(NAME)


def test_names_that_do_not_exist_get_near_ones(row: dict):
    with pytest.raises(CheckpointFileError, match=f"near ones are {NAME}.* names of the configs"):
        read_registered("quadmamba-official")
    row["unsupported"] = "for a reason"
    with pytest.raises(CheckpointFileError, match="near ones are none"):
        read_registered(NAME)
    row.pop("unsupported")
    row["name"] = "short"
    assert read_registered("short")["meta"]["source"] == URL


def test_every_release_of_the_table_has_a_name_of_its_own():
    table = read_table(installed_table())
    named = registered_names(table)
    assert len(named) == sum("unsupported" not in row for row in table)
    assert named["vmamba-tiny-s1l8_8xb128_in1k"]["arch"] == "tiny-s1l8"
    assert all(row["url"].startswith("https://") for row in named.values())


def test_a_file_behind_a_page_is_the_users_to_fetch(row: dict):
    row["url"] = "https://example.org/file/123/view"
    with pytest.raises(CheckpointFileError, match=r"download https://example.org/file/123/view"):
        read_registered(NAME)
