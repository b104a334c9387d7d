"""The command line: every command, its help, its script, and a model from training to export."""

import argparse
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from mmquad import __version__
from mmquad.cli.completion import SHELLS, completion_script
from mmquad.cli.main import command_parser, commands, main
from mmquad.datasets import generate_shapes_imagenet
from mmquad.engine.config_loading import find_config, shipped_configs
from mmquad.engine.processes import launch_command, threads_for
from mmquad.errors import SetupError

ROOT = Path(__file__).parents[2]
SCRIPTS = {
    path: match[1]
    for path in sorted((ROOT / "tools").rglob("*.py"))
    if (match := re.search(r'run_script\("([\w-]+)"', path.read_text()))
}
NAMES = list(commands())


def words_of(parser: argparse.ArgumentParser) -> set[str]:
    return {option for action in parser._actions for option in action.option_strings}


def test_the_commands(capsys):
    main([])
    shown = capsys.readouterr().out
    assert all(re.search(rf"^  {name} +\w", shown, re.MULTILINE) for name in NAMES)
    assert {"train", "test", "predict", "convert", "identify", "export", "info"} <= set(NAMES)
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"mmquad {__version__}\n"


@pytest.mark.parametrize("name", NAMES)
def test_help_shows_an_example_and_every_option(name: str, capsys):
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: mmquad {name} ")
    (example, *_) = re.findall(rf"^mmquad {name}.*$", shown, re.MULTILINE)
    known = words_of(command_parser(name))
    assert {word for word in example.split() if word.startswith("--")} <= known
    for action in command_parser(name)._actions:
        assert action.help, (name, action.dest)


def test_what_does_not_exist(capsys):
    with pytest.raises(SystemExit):
        main(["trian"])
    assert "there is no command 'trian'; did you mean train?" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["xyz"])
    assert f"there are {', '.join(NAMES)}" in capsys.readouterr().err
    with pytest.raises(SystemExit, match=r"Config not found: mask-rcnn_quadmamba-tny_fpn_1x_coco"):
        main(["train", "mask-rcnn_quadmamba-tny_fpn_1x_coco"])


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_commands_under_their_own_name(script: Path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [script.name, "--help"])
    with pytest.raises(SystemExit):
        runpy.run_path(str(script), run_name="__main__")
    shown = capsys.readouterr().out
    own = f"python {script.relative_to(ROOT).as_posix()}"
    assert " ".join(shown.split()).startswith(f"usage: {own} ")
    assert f"\n{own} " in shown, "the example"
    assert "mmquad train" not in shown.replace("tools/train", "")


def test_most_commands_have_a_script():
    assert sorted(SCRIPTS.values()) == sorted(set(NAMES) - {"info", "new-config"})


def test_configs_by_path_and_name(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "mask-rcnn_quadmamba-tiny_fpn_1x_coco"
    shipped = shipped_configs() / "mmdet" / "quadmamba" / f"{name}.py"
    assert find_config(name) == find_config(f"{name}.py") == find_config(shipped) == shipped
    Path(f"{name}.py").write_text("")
    assert find_config(f"{name}.py") == Path(f"{name}.py"), "one's own comes first"
    assert find_config(name) == shipped
    with pytest.raises(SetupError, match="near ones are mask-rcnn_quadmamba-tiny_fpn_1x_coco"):
        find_config(f"elsewhere/{name}.py")
    with pytest.raises(SetupError, match=r"The configs of this package are in .*configs"):
        find_config("0")


def test_names_of_configs_are_distinct():
    names = [path.stem for path in shipped_configs().glob("*/[!_]*/*.py")]
    assert len(names) == len(set(names)) > 100


def test_several_processes():
    given = ["c.py", "--gpus", "2", "--amp", "--cfg-options", "a=1"]
    command = launch_command("train", given, 2)
    assert command[:3] == [sys.executable, "-m", "torch.distributed.run"]
    assert "--nproc_per_node=2" in command
    name, *words = command[command.index("mmquad") + 1 :]
    assert name == "train"
    args = command_parser(name).parse_args(words)
    assert (args.config, args.amp, args.cfg_options) == ("c.py", True, {"a": 1})
    assert (args.gpus, args.launcher) == (1, "pytorch")
    assert threads_for(2, {"OMP_NUM_THREADS": "3"}) == {}
    assert set(threads_for(10**6, {}).values()) <= {"1"}
    with pytest.raises(SystemExit):
        command_parser("train").parse_args(["c.py", "--gpus", "0"])


@pytest.mark.parametrize("asked", [["--gpus", "2"], ["--gpus=2"], ["--gpu", "2"], ["--g=2"]])
def test_started_processes_start_no_others(asked: list[str]):
    """argparse takes what is left of an option, so the parsed number counts, not the word."""
    assert command_parser("train").parse_args(["c.py", *asked]).gpus == 2
    command = launch_command("train", ["c.py", *asked], 2)
    words = command[command.index("train") + 1 :]
    assert command_parser("train").parse_args(words).gpus == 1


def test_processes_that_a_launcher_started_already():
    with pytest.raises(
        SystemExit, match="--gpus 2 starts the processes itself, but --launcher mpi"
    ):
        main(["train", "quadmamba-demo_shapes", "--gpu", "2", "--launcher", "mpi"])


def test_the_package_is_the_command():
    command = [sys.executable, "-m", "mmquad", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == f"mmquad {__version__}\n"


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_names_commands_and_options(shell: str):
    script = completion_script(shell, {"train": command_parser("train")})
    assert "train" in script
    assert "resume" in script
    assert ("bashcompinit" in script) == (shell == "zsh")


def test_bash_completes():
    parsers = {name: command_parser(name) for name in ("train", "test")}
    script = completion_script("bash", parsers)
    ask = 'COMP_WORDS=(mmquad {}); COMP_CWORD={}; _mmquad; echo "${{COMPREPLY[@]}}"\n'
    asked = ask.format("t", 1) + ask.format("train --res", 2) + ask.format("test --sh", 2)
    shown = subprocess.run(
        ["bash"], input=f"{script}\n{asked}", capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert shown == ["train test", "--resume", "--show --show-dir"]


@pytest.mark.slow
def test_from_training_to_export(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    generate_shapes_imagenet(tmp_path / "data", 4, 4)
    small = ["train_cfg.max_epochs=1", "train_dataloader.batch_size=4"]
    small += ["model.backbone.arch.depths=(1,1,1,1)", "train_dataloader.num_workers=0"]
    small += ["val_dataloader.num_workers=0", "test_dataloader.num_workers=0"]
    common = ["--data-root", "data", "--work-dir", "run", "--cfg-options", *small]
    main(["train", "quadmamba-demo_shapes", *common])
    (weights,) = Path("run").glob("epoch_1.pth")
    main(["test", "run/quadmamba-demo_shapes.py", str(weights), "--work-dir", "tested"])
    image = next(
        path
        for path in Path("data").rglob("*")
        if path.suffix in (".jpg", ".jpeg", ".png", ".JPEG")
    )
    main(["predict", "run/quadmamba-demo_shapes.py", str(weights), str(image)])
    assert "1 pictures and predictions/predictions.csv" in capsys.readouterr().out
    exported = ["run/quadmamba-demo_shapes.py", str(weights), "out/model.pt2"]
    main(["export", *exported, "--size", "64", "64", "--classifier"])
    assert "largest difference" in capsys.readouterr().out
    assert Path("out/model.pt2").is_file()
    with pytest.raises(SystemExit):
        main(["export", *exported[:2], "out/model.bin", "--size", "64", "64"])
    assert "must end in .onnx or .pt2, got model.bin" in capsys.readouterr().err
