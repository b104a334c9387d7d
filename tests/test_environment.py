"""Each check of the doctor, on made-up metadata and on the environment that runs the tests."""

import importlib.metadata
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from packaging.requirements import Requirement

from mmquad import environment
from mmquad.environment import Problem, find_problems
from mmquad.flavours import MODULES, WINDOWS, Installed, flavour, installed

VERSIONS = {
    "onedl": {
        "onedl-mmengine": "0.10.12",
        "onedl-mmcv": "2.3.6",
        "onedl-mmdetection": "3.5.1",
        "onedl-mmsegmentation": "1.4.2",
        "onedl-mmpretrain": "1.3.6",
    },
    "openmmlab": {
        "mmengine": "0.10.7",
        "mmcv": "2.1.0",
        "mmdet": "3.3.0",
        "mmsegmentation": "1.2.2",
        "mmpretrain": "1.2.0",
    },
}
COMMON = {"torch": "2.11.0+cu130", "torchvision": "0.26.0", "setuptools": "81.0.0"}


def metadata(name: str, modules: tuple[str, ...] = MODULES, **owners) -> Installed:
    """The metadata of a complete flavour, with some owners replaced."""
    table = WINDOWS[name]
    found = {module: (table[module][0],) for module in modules}
    others = ("torch", "torchvision", "pycocotools", "ftfy", "regex")
    found.update({module: (module,) for module in others})
    return Installed({**found, **owners}, {**VERSIONS["onedl"], **VERSIONS["openmmlab"], **COMMON})


def works(module: str) -> None:
    return None


def only(problems) -> Problem:
    (problem,) = problems
    return problem


@pytest.mark.parametrize("name", ["onedl", "openmmlab"])
def test_a_complete_flavour_is_recognised_and_healthy(name):
    found = metadata(name)
    assert flavour(found) == name
    assert list(environment.check_owners(found)) == []
    assert list(environment.check_versions(found)) == []
    for task in (None, "det", "seg", "cls"):
        assert list(environment.check_present(found, task)) == []


def test_nothing_installed():
    found = Installed({"torch": ("torch",)}, {"torch": "2.11.0"})
    assert flavour(found) == "none"
    assert only(environment.check_present(found, None)).severity == "warning"
    problem = only(environment.check_present(found, "det"))
    assert problem.severity == "error"
    assert "mmengine, mmcv, mmdet, pycocotools, torchvision" in problem.what
    assert "mmquad[det]" in problem.fix


def test_a_library_without_what_it_imports_is_reported_for_no_task_in_particular():
    problem = only(environment.check_present(metadata("openmmlab", ftfy=()), None))
    assert problem.severity == "error"
    assert problem.what == "missing for the task seg: ftfy"
    assert "mmquad[openmmlab]" in problem.fix


def test_mixed_flavours_are_an_error_that_names_both():
    problem = only(environment.check_owners(metadata("onedl", mmdet=("mmdet",))))
    assert problem.severity == "error"
    assert "beside mmdet" in problem.what
    assert "`pip uninstall -y onedl-mmcv" in problem.fix
    assert "mmdet`" in problem.fix


def test_two_distributions_that_own_one_module():
    found = metadata("onedl", mmseg=("mmsegmentation", "onedl-mmsegmentation"))
    first, second = environment.check_owners(found)
    assert "mmsegmentation and onedl-mmsegmentation both install the module mmseg" in first.what
    assert "mixed" in second.what


def test_mmcv_lite_beside_the_forks_is_no_mixture():
    assert list(environment.check_owners(metadata("onedl", mmcv=("mmcv-lite",)))) == []


@pytest.mark.parametrize(
    ("name", "distribution", "version"),
    [
        ("onedl", "onedl-mmcv", "2.4.0"),
        ("onedl", "onedl-mmengine", "0.10.8"),
        ("openmmlab", "mmcv", "2.2.0"),
        ("onedl", "torch", "2.3.1"),
    ],
)
def test_a_version_outside_its_window(name, distribution, version):
    found = metadata(name)
    found = Installed(found.owners, {**found.versions, distribution: version})
    problem = only(environment.check_versions(found))
    assert problem.what.startswith(f"{distribution} {version} is outside")
    assert f"pip install '{distribution}" in problem.fix


def test_versions_of_the_other_flavour_do_not_matter():
    found = metadata("onedl")
    found = Installed(found.owners, {**found.versions, "mmcv": "1.0"})
    assert list(environment.check_versions(found)) == []


def no_ops(module: str) -> Exception:
    return ModuleNotFoundError("No module named 'mmcv._ext'", name="mmcv._ext")


def other_torch(module: str) -> Exception:
    return ImportError("_ext.so: undefined symbol: _ZN3c106detail")


def test_mmcv_without_ops_stops_detection_but_not_the_forks_segmentation():
    found = metadata("onedl")
    problem = only(environment.check_mmcv_ops(found, "det", no_ops))
    assert problem.severity == "error"
    assert "onedl-mmcv has no operators" in problem.what
    assert "pip install ./mmcv_ops; or compile: pip install --no-build-isolation" in problem.fix
    assert "onedl-mmcv==2.3.6" in problem.fix
    assert only(environment.check_mmcv_ops(found, "seg", no_ops)).severity == "warning"
    originals = metadata("openmmlab")
    assert only(environment.check_mmcv_ops(originals, "seg", no_ops)).severity == "error"


def test_mmcv_compiled_for_another_torch():
    problem = only(environment.check_mmcv_ops(metadata("openmmlab"), None, other_torch))
    assert "another torch than 2.11.0+cu130" in problem.what
    assert "undefined symbol" in problem.what
    assert "mmcv==2.1.0" in problem.fix


def test_healthy_or_absent_mmcv_ops():
    assert list(environment.check_mmcv_ops(metadata("onedl"), "det", works)) == []
    without = metadata("onedl", modules=("mmengine",))
    assert list(environment.check_mmcv_ops(without, "det", no_ops)) == []


def test_mmcv_for_the_cpu_alone_on_a_machine_with_a_gpu():
    found = metadata("onedl")

    def problems(task: str, *answer) -> list[Problem]:
        return list(environment.check_mmcv_cuda(found, task, lambda: answer))

    problem = only(problems("det", True, "not available", "compiled"))
    assert problem.severity == "warning"
    assert "nvcc" in problem.fix
    problem = only(problems("det", True, "not available", "torchvision 0.26.0+cpu"))
    assert "(torchvision 0.26.0+cpu)" in problem.what
    assert "install the torchvision of this torch" in problem.fix
    assert problems("det", True, "13.0", "compiled") == []
    assert problems("det", False, "", "compiled") == []
    assert problems("seg", True, "not available", "compiled") == []


def test_operators_from_a_torchvision_that_is_missing_or_does_not_fit():
    """One that does not fit is the business of `check_torchvision`, which every task runs."""
    broken = RuntimeError("(mmcv-ops-torchvision): operator torchvision::nms does not exist")
    broken.__cause__ = RuntimeError("operator torchvision::nms does not exist")
    assert list(environment.check_mmcv_ops(metadata("onedl"), "det", lambda module: broken)) == []
    broken.__cause__ = ModuleNotFoundError("No module named 'torchvision'")
    problem = only(environment.check_mmcv_ops(metadata("onedl"), "det", lambda module: broken))
    assert "from torchvision (mmcv-ops-torchvision), which is not installed" in problem.what


def test_the_operators_in_mmcvs_folder_do_not_make_their_distribution_its_owner(monkeypatch):
    owners = {"mmcv": ["onedl-mmcv", "mmcv-ops-torchvision"], "mmseg": ["mmcv-ops-torchvision"]}
    metadata = importlib.metadata
    monkeypatch.setattr(metadata, "packages_distributions", lambda: owners)
    monkeypatch.setattr(metadata, "distributions", list)
    assert installed().owners == {"mmcv": ("onedl-mmcv",)}


@pytest.mark.parametrize(
    ("module", "operators"),
    [
        (SimpleNamespace(PROVIDER="torchvision 1"), "torchvision 1"),
        (object(), "compiled"),
    ],
)
def test_the_report_names_the_operators_in_use(monkeypatch, module, operators):
    monkeypatch.setitem(sys.modules, "mmcv._ext", module)
    assert environment.mmcv_operators() == operators
    if installed().owner("mmcv"):
        assert re.search(rf"^operators +{operators}", environment.report([]), re.MULTILINE)


def test_torchvision_that_does_not_match_torch():
    found = metadata("onedl")
    broken = RuntimeError("operator torchvision::nms does not exist")
    problem = only(environment.check_torchvision(found, lambda module: broken))
    assert "torchvision 0.26.0 does not match torch 2.11.0+cu130" in problem.what
    assert "nms does not exist" in problem.what
    absent = ModuleNotFoundError("No module named 'torchvision'")
    assert list(environment.check_torchvision(found, lambda module: absent)) == []


def test_the_originals_need_pkg_resources_and_the_forks_do_not():
    def absent(module: str) -> bool:
        return False

    problem = only(environment.check_pkg_resources(metadata("openmmlab"), absent))
    assert problem.fix == "pip install 'setuptools<82'"
    assert list(environment.check_pkg_resources(metadata("onedl"), absent)) == []


def test_find_problems_runs_every_check(monkeypatch):
    """One environment with everything wrong with it at once."""
    found = metadata(
        "openmmlab", modules=("mmengine", "mmcv"), mmengine=("mmengine", "onedl-mmengine")
    )
    found = Installed(found.owners, {**found.versions, "mmcv": "2.2.0"})
    broken = RuntimeError("operator torchvision::nms does not exist")
    monkeypatch.setattr(environment, "installed", lambda: found)
    monkeypatch.setattr(environment, "flavour", lambda found=None: "openmmlab")
    monkeypatch.setattr(environment, "_has_module", lambda module: False)
    monkeypatch.setattr(environment, "import_error", lambda module: broken)
    monkeypatch.setattr(environment, "_compiled_for", lambda: (True, "not available", "compiled"))
    told = " | ".join(problem.what for problem in find_problems("det"))
    for part in (
        "both install the module mmengine",
        "mixed",
        "mmcv 2.2.0 is outside",
        "missing for the task det: mmdet",
        "pkg_resources",
        "does not match",
        "do not load",
        "compiled for the CPU alone",
    ):
        assert part in told


def test_metadata_that_an_interrupted_pip_left_is_passed_over(tmp_path, monkeypatch):
    (tmp_path / "mmdet").mkdir()
    remains = tmp_path / "mmdet-3.3.0.dist-info"
    remains.mkdir()
    (remains / "RECORD").write_text("mmdet/__init__.py,,\n")
    before = installed()
    monkeypatch.syspath_prepend(tmp_path)
    assert installed().versions == before.versions
    assert installed().owner("torch") == "torch"


def test_an_unknown_task_is_refused():
    with pytest.raises(ValueError, match=r"task must be one of .*'det'.* got 'depth'"):
        find_problems("depth")


def test_the_windows_equal_the_extras_of_pyproject():
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    project = tomllib.loads(Path(__file__).parents[1].joinpath("pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    for name, groups in (("onedl", ("engine", "cls", "det", "seg")), ("openmmlab", ("openmmlab",))):
        declared = {}
        for text in (line for group in groups for line in extras[group]):
            requirement = Requirement(text)
            declared[requirement.name] = requirement.specifier
        for distribution, window in WINDOWS[name].values():
            assert declared[distribution] == Requirement(f"x{window}").specifier


def test_the_running_environment_is_reported(capsys):
    pytest.importorskip("mmengine")
    found = installed()
    assert found.owner("torch") == "torch"
    assert flavour(found) in ("onedl", "openmmlab")
    status = environment.main()
    out = capsys.readouterr().out
    assert found.versions["torch"] in out
    assert status == any(problem.severity == "error" for problem in find_problems())
    assert status == 0, out
