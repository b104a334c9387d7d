"""Where mmcv comes from, and for which torch and GPU it is compiled."""

from pathlib import Path

import pytest


def test_the_wheel_cache_key_holds_everything_a_wheel_depends_on(setup, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in ("FORCE_CUDA", "TORCH_CUDA_ARCH_LIST"):
        monkeypatch.delenv(name, raising=False)
    cpu = setup.mmcv.Torch("2.11.0+cu130", "13.0", None, None)
    folder = setup.mmcv.wheel_folder("onedl-mmcv", "2.3.6", "3.11", cpu)
    assert folder == tmp_path / "mmquad" / "wheels" / "onedl-mmcv-2.3.6-cp311-torch2.11.0-cpu"
    gpu = cpu._replace(capability="90", nvcc="13.0")
    folder = setup.mmcv.wheel_folder("mmcv", "2.1.0", "3.12", gpu)
    assert folder.name == "mmcv-2.1.0-cp312-torch2.11.0-cu130-sm90"


def test_cuda_ops_need_a_gpu_or_force_cuda_and_an_nvcc_that_fits(setup, monkeypatch):
    for name in ("FORCE_CUDA", "TORCH_CUDA_ARCH_LIST"):
        monkeypatch.delenv(name, raising=False)
    torch = setup.mmcv.Torch("2.11.0+cu130", "13.0", "90", "13.2")
    assert torch.ops == "cu130-sm90"
    assert torch._replace(nvcc="12.8").ops == "cpu"
    assert torch._replace(nvcc=None).ops == "cpu"
    without_gpu = torch._replace(capability=None)
    assert without_gpu.ops == "cpu"
    monkeypatch.setenv("FORCE_CUDA", "1")
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "8.0;9.0+PTX")
    assert without_gpu.ops == "cu130-8_0_9_0+PTX"
    assert without_gpu._replace(cuda=None).ops == "cpu"


@pytest.fixture
def install(setup, environment, interpreter, monkeypatch, tmp_path):
    """Runs the step: mmcv has ``faults`` in turn, pip refuses ``broken``; gives what it took."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    torch = setup.mmcv.Torch("2.11.0+cu130", "13.0", None, None)

    def run(faults: list, broken: str = "") -> list[str]:
        steps = []

        def step(title, command, **more):
            steps.append(command[-1])
            if command[-1] == broken:
                raise setup.checks.SetupError("Wheel is invalid")

        monkeypatch.setattr(environment, "step", step)
        monkeypatch.setattr(environment, "ask", lambda code: (False, ""))
        monkeypatch.setattr(setup.mmcv, "mmcv_fault", lambda env, torch: faults.pop(0))
        monkeypatch.setattr(setup.mmcv, "build_mmcv", lambda *arguments: Path("/built.whl"))
        setup.mmcv.install_mmcv(environment, torch, "onedl-mmcv", "2.3.6", interpreter())
        return steps

    return run


@pytest.fixture
def cached(tmp_path) -> Path:
    """A wheel in the cache."""
    folder = tmp_path / "cache/mmquad/wheels/onedl-mmcv-2.3.6-cp311-torch2.11.0-cpu"
    folder.mkdir(parents=True)
    (folder / "a.whl").touch()
    return folder / "a.whl"


def test_mmcv_comes_from_the_cache_first(install, cached):
    assert install([None]) == [str(cached)]


def test_wheels_that_do_not_load_are_passed_over(install, cached, capsys):
    faults = ["undefined symbol: _ZN3c10", "undefined symbol: _ZN2at", None]
    assert install(faults) == [str(cached), "onedl-mmcv==2.3.6", "/built.whl"]
    assert not cached.exists()
    assert "undefined symbol: _ZN2at" in capsys.readouterr().out


def test_a_cached_wheel_that_pip_refuses_is_passed_over(install, cached, capsys):
    """Cut off, or compiled on a machine of another kind that shares the home folder."""
    assert install([None], broken=str(cached)) == [str(cached), "onedl-mmcv==2.3.6"]
    assert cached.exists()
    assert "cannot be installed; passing it over" in capsys.readouterr().out


def test_an_mmcv_that_does_not_load_even_when_compiled_stops_the_setup(setup, install):
    with pytest.raises(setup.checks.SetupError, match="do not load: second"):
        install(["first", "second"])


def test_a_compiled_wheel_reaches_the_cache_whole_or_not_at_all(
    setup, environment, interpreter, monkeypatch, tmp_path
):
    folder = tmp_path / "cache" / "key"
    torch = setup.mmcv.Torch("2.11.0+cu130", "13.0", None, None)
    monkeypatch.setattr(setup.mmcv, "check_build_tools", lambda python: None)

    def build(title, command, extra):
        scratch = Path(command[command.index("--wheel-dir") + 1])
        (scratch / "mmcv.whl").write_text("wheel")
        if fail:
            raise setup.checks.SetupError("compiler died")

    def compiled() -> Path:
        return setup.mmcv.build_mmcv(environment, "onedl-mmcv==2.3.6", folder, torch, interpreter())

    monkeypatch.setattr(environment, "step", build)
    fail = True
    with pytest.raises(setup.checks.SetupError, match="compiler died"):
        compiled()
    assert not folder.exists()
    assert list(folder.parent.iterdir()) == []
    fail = False
    assert compiled().read_text() == "wheel"
    assert compiled().parent == folder
