"""When the set-up compiles the optional kernels, for which GPU, and what it says when it cannot."""

import pytest


@pytest.fixture
def install(setup, environment, interpreter, monkeypatch):
    """Runs the step with a torch given; returns what pip was called with."""

    def run(torch, fails: bool = False) -> list[tuple[str, dict]]:
        calls = []

        def step(title, command, extra):
            calls.append((command[-1], extra))
            if fails:
                raise setup.checks.SetupError("kernel.cpp: error: no such thing")

        monkeypatch.setattr(environment, "step", step)
        setup.kernels.install_kernels(environment, torch, interpreter())
        return calls

    return run


def test_without_a_gpu_only_the_cpu_part_is_compiled(setup, install):
    torch = setup.mmcv.Torch("2.11.0+cu130", "13.0", None, "13.0")
    assert install(torch) == [("./kernels", {"MMQUAD_WITH_CUDA": "0"})]


def test_with_a_gpu_and_nvcc_it_is_compiled_for_that_gpu(setup, install):
    torch = setup.mmcv.Torch("2.11.0+cu130", "13.0", "120", "13.2")
    variables = {"MMQUAD_WITH_CUDA": "1", "TORCH_CUDA_ARCH_LIST": "12.0"}
    assert install(torch) == [("./kernels", variables)]


def test_a_failing_build_is_reported_and_ends_nothing(setup, install, capsys):
    install(setup.mmcv.Torch("2.11.0", None, None, None), fails=True)
    output = capsys.readouterr().out
    assert "kernels are left out: kernel.cpp: error: no such thing" in output
    assert "pip install --no-build-isolation ./kernels" in output


def test_an_old_torch_or_no_compiler_leaves_the_kernels_out(
    setup, install, interpreter, monkeypatch
):
    old = setup.mmcv.Torch("2.9.1", None, None, None)
    assert install(old) == []
    assert "2.10 or later" in setup.kernels.in_the_way(old, interpreter())
    monkeypatch.setenv("CXX", "no-such-compiler")
    reason = setup.kernels.in_the_way(old._replace(version="2.10.0"), interpreter())
    assert reason.startswith("No C++ compiler")


def test_sources_of_every_kind_count_and_build_products_do_not(setup, tmp_path):
    for name in ("csrc/cpu/a.cpp", "csrc/cuda/a.cu", "csrc/a.inc", "mmquad_kernels/__init__.py"):
        path = tmp_path / "kernels" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
        before = setup.kernels.kernel_sources(tmp_path)
        path.write_text("y")
        assert setup.kernels.kernel_sources(tmp_path) != before
    before = setup.kernels.kernel_sources(tmp_path)
    for name in ("build/a.cpp", "mmquad_kernels/_C.abi3.so"):
        path = tmp_path / "kernels" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("z")
    assert setup.kernels.kernel_sources(tmp_path) == before
