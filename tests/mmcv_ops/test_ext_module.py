"""What stands in for `mmcv._ext`: names, refusals, what it says of itself, and who wins."""

import importlib.util
import re
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import SimpleNamespace

import mmcv
import pytest
import torch
import torchvision
from mmcv.ops import get_compiler_version, get_compiling_cuda_version

from mmcv_ops_torchvision import __version__, extension, install, kernels

SOURCE = Path(extension.__file__).parent.parent
SERVED = {name for name in extension.__all__ if name.islower()}


def asked_for() -> set[str]:
    """The names that mmcv's Python part loads from its extension."""
    names = set()
    for path in Path(mmcv.__file__).parent.joinpath("ops").glob("*.py"):
        for call in re.findall(r"load_ext\(\s*'_ext',\s*\[([^\]]*)\]", path.read_text()):
            names.update(re.findall(r"'(\w+)'", call))
    return names


def test_every_name_that_mmcv_asks_for_is_there_and_callable():
    names = asked_for()
    assert len(names) > 100
    assert names >= SERVED
    assert all(callable(getattr(extension, name)) for name in names)


def test_mmcv_calls_what_is_served_as_it_is_defined(compiled):
    """Parameters have the names of the compiled ones, which their docstrings tell."""
    for name in SERVED:
        signature = getattr(compiled, name).__doc__.splitlines()[0]
        expected = re.findall(r"(\w+): ", signature)
        code = getattr(getattr(extension, name), "__wrapped__", getattr(extension, name)).__code__
        assert list(code.co_varnames[: code.co_argcount]) == expected, name


def test_other_operators_refuse_when_they_are_called():
    refused = extension.carafe_forward
    with pytest.raises(
        NotImplementedError, match=r"`carafe_forward` .* compiled mmcv: pip install"
    ):
        refused(torch.zeros(1), scale=2)


def test_other_names_are_no_operators():
    for name in ("_private", "__path__", "Version"):
        with pytest.raises(AttributeError, match=name):
            getattr(extension, name)


def test_the_refusal_names_the_mmcv_that_is_installed(monkeypatch):
    monkeypatch.setattr(install, "installed_mmcv", lambda: ("mmcv-lite", "2.1.0"))
    assert "--force-reinstall mmcv==2.1.0 (" in install.compiling_command()


def test_it_says_what_it_is(served):
    assert f"torchvision {torchvision.__version__}" == extension.PROVIDER
    assert (
        get_compiler_version()
        == f"none ({extension.PROVIDER} by mmcv-ops-torchvision {__version__})"
    )
    assert get_compiling_cuda_version() == (torch.version.cuda or "not available")


# The operators of torchvision whose names begin with an underscore are private: it may change them.
SCHEMAS = """
nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor
roi_align(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width, int sampling_ratio, bool aligned) -> Tensor
_roi_align_backward(Tensor grad, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width, SymInt batch_size, SymInt channels, SymInt height, SymInt width, int sampling_ratio, bool aligned) -> Tensor
roi_pool(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width) -> (Tensor, Tensor)
_roi_pool_backward(Tensor grad, Tensor rois, Tensor argmax, float spatial_scale, SymInt pooled_height, SymInt pooled_width, SymInt batch_size, SymInt channels, SymInt height, SymInt width) -> Tensor
deform_conv2d(Tensor input, Tensor weight, Tensor offset, Tensor mask, Tensor bias, SymInt stride_h, SymInt stride_w, SymInt pad_h, SymInt pad_w, SymInt dilation_h, SymInt dilation_w, SymInt groups, SymInt offset_groups, bool use_mask) -> Tensor
_deform_conv2d_backward(Tensor grad, Tensor input, Tensor weight, Tensor offset, Tensor mask, Tensor bias, SymInt stride_h, SymInt stride_w, SymInt pad_h, SymInt pad_w, SymInt dilation_h, SymInt dilation_w, SymInt groups, SymInt offset_groups, bool use_mask) -> (Tensor, Tensor, Tensor, Tensor, Tensor)
_cuda_version() -> int _0
"""  # noqa: E501


@pytest.mark.parametrize("schema", SCHEMAS.strip().splitlines())
def test_torchvision_has_the_operators_that_are_called(schema):
    name = schema.split("(")[0]
    assert str(getattr(torch.ops.torchvision, name).default._schema) == f"torchvision::{schema}"


def run(code: str, *path: Path) -> subprocess.CompletedProcess:
    """`code` in a fresh Python that looks for modules in `path` first."""
    setup = f"import sys; sys.path[:0] = {[str(each) for each in path]}\n"
    return subprocess.run([sys.executable, "-c", setup + code], capture_output=True, text=True)


def test_a_torchvision_of_another_torch_is_said_as_that(tmp_path):
    """Not an ImportError, which mmdet would answer with advice about mmcv."""
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text(
        "raise RuntimeError('operator torchvision::nms does not exist')"
    )
    code = (
        "try: import mmcv_ops_torchvision.extension\n"
        "except ImportError: print('taken for a missing mmcv')"
    )
    done = run(code, tmp_path, SOURCE)
    minor = torch.__version__.split(".")[1]
    assert done.returncode == 1
    assert f"does not fit torch {torch.__version__.split('+')[0]}" in done.stderr
    assert (
        f"Install torchvision 0.{int(minor) + 15}, which belongs to torch 2.{minor}" in done.stderr
    )


def test_a_torchvision_without_cuda_is_said_as_that(monkeypatch):
    gpu = SimpleNamespace(is_cuda=True)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(kernels, "TORCHVISION", SimpleNamespace(_cuda_version=lambda: -1))
    with pytest.raises(RuntimeError, match=r"no CUDA kernels.* built for CUDA 13\.0"):
        kernels.torchvision_kernel("nms", gpu)


def test_gradients_that_vary_run_under_deterministic_algorithms_and_say_so():
    gpu = SimpleNamespace(is_cuda=True)
    torch.use_deterministic_algorithms(True)
    try:
        with (
            pytest.warns(UserWarning, match="gradient of RoIAlign is not deterministic"),
            kernels.varying_gradients("RoIAlign", gpu),
        ):
            assert not torch.are_deterministic_algorithms_enabled()
        assert torch.get_deterministic_debug_mode() == 2
        with kernels.varying_gradients("RoIAlign", torch.zeros(1)):
            assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.fixture
def fake_mmcv(tmp_path, monkeypatch):
    """An mmcv without operators, found first; gives its folder."""
    folder = tmp_path / "mmcv"
    folder.mkdir()
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mmcv")
    return folder


def test_a_compiled_mmcv_wins(fake_mmcv):
    assert install.operators_in_use() == "none"
    (fake_mmcv / "_ext.py").write_text("")
    assert install.operators_in_use() == "torchvision"
    found = importlib.machinery.PathFinder.find_spec("mmcv._ext", [str(fake_mmcv)])
    assert found.origin == str(fake_mmcv / "_ext.py")
    binary = fake_mmcv / f"_ext{EXTENSION_SUFFIXES[0]}"
    binary.touch()
    assert install.operators_in_use() == "compiled"
    importlib.invalidate_caches()
    found = importlib.machinery.PathFinder.find_spec("mmcv._ext", [str(fake_mmcv)])
    assert found.origin == str(binary)


def test_our_file_without_an_mmcv_is_none(fake_mmcv):
    (fake_mmcv / "__init__.py").unlink()
    (fake_mmcv / "_ext.py").write_text("")
    found = importlib.machinery.PathFinder.find_spec("mmcv", [str(fake_mmcv.parent)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importlib.util, "find_spec", lambda name: found)
        assert install.operators_in_use() == "none"


def test_the_file_in_mmcvs_folder_holds_everything(fake_mmcv):
    (fake_mmcv / "_ext.py").write_text((SOURCE / "mmcv_ext.py").read_text())
    done = run(
        "import mmcv._ext as e; print(e.PROVIDER); e.nms, e.softnms, e.carafe_forward",
        fake_mmcv.parent,
        SOURCE,
    )
    assert done.stdout.strip() == extension.PROVIDER, done.stderr
