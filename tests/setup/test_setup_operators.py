"""mmcv without compiling: what is installed, and when it is there already."""

import pytest


@pytest.fixture
def install(setup, environment, monkeypatch):
    """Runs the step in an environment that answers `found`; gives the commands' last words."""

    def run(found: tuple[bool, str], capability: str | None = None) -> list[str]:
        steps = []
        torch = setup.mmcv.Torch("2.11.0+cu130", "13.0", capability, None)
        monkeypatch.setattr(environment, "step", lambda title, command: steps.append(command[-1]))
        monkeypatch.setattr(environment, "ask", lambda code: found)
        setup.operators.install_operators(environment, torch, "mmcv", "2.1.0")
        return steps

    return run


def test_mmcv_is_installed_where_it_is_missing_compiled_or_of_another_version(install):
    for found in ((False, "No module"), (True, "compiled 2.1.0"), (True, "torchvision 2.2.0")):
        assert install(found) == ["./mmcv_ops", "mmcv==2.1.0"]


def test_what_is_there_stays_and_only_the_operators_are_renewed(install, capsys):
    assert install((True, "torchvision 2.1.0")) == ["./mmcv_ops"]
    assert capsys.readouterr().out == ""


def test_on_a_machine_with_a_gpu_it_says_what_has_not_been_tried(install, capsys):
    install((True, "torchvision 2.1.0"), capability="90")
    assert "have not been run on one yet. OPS=compiled" in capsys.readouterr().out
