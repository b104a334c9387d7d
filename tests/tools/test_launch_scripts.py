"""The launch scripts, run as a user runs them: from another folder, with blanks in paths."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from mmquad.datasets import generate_shapes_coco

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / "tools"
DEMO = ROOT / "configs" / "mmdet" / "quadmamba" / "mask-rcnn_quadmamba-demo_fpn_shapes.py"
SCRIPTS = sorted(TOOLS.rglob("*.sh"))


def run(*command: object, cwd: Path, **variables: str) -> subprocess.CompletedProcess:
    env = {
        **os.environ,
        "PYTHON": sys.executable,
        "CUDA_VISIBLE_DEVICES": "-1",
        "OMP_NUM_THREADS": "1",
        **variables,
    }
    return subprocess.run(
        [str(word) for word in command], cwd=cwd, env=env, capture_output=True, text=True
    )


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_valid_and_executable(script: Path, tmp_path: Path):
    assert os.access(script, os.X_OK)
    result = run("bash", "-n", script, cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("dist_train.sh", "CONFIG NUM_PROCESSES"),
        ("dist_test.sh", "CONFIG CHECKPOINT NUM_PROCESSES"),
        ("slurm_train.sh", "PARTITION JOB_NAME CONFIG WORK_DIR"),
        ("slurm_test.sh", "PARTITION JOB_NAME CONFIG CHECKPOINT"),
    ],
)
def test_missing_arguments_print_the_usage(script: str, arguments: str, tmp_path: Path):
    result = run(TOOLS / script, "only-one", cwd=tmp_path)
    assert result.returncode == 2
    assert "usage:" in result.stderr
    assert f"{script} {arguments}" in result.stderr


def test_number_of_processes_must_be_a_number(tmp_path: Path):
    result = run(TOOLS / "dist_train.sh", "config.py", "--resume", cwd=tmp_path)
    assert result.returncode == 2
    assert "positive integer, got: '--resume'" in result.stderr


def test_setup_errors_are_said_once_without_traceback(tmp_path: Path):
    result = run(TOOLS / "dist_train.sh", "my config.py", 2, cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr.count("Config not found: my config.py") == 1
    assert "Traceback" not in result.stderr


@pytest.fixture
def fake_python(tmp_path: Path) -> Path:
    """Stands for the interpreter: writes each of its calls to a file."""
    path = tmp_path / "fake python"
    path.write_text(f'#!/bin/sh\nfor a; do echo "$a"; done >> {shlex.quote(str(tmp_path))}/calls\n')
    path.chmod(0o755)
    return path


def calls(tmp_path: Path) -> list[str]:
    return (tmp_path / "calls").read_text().splitlines()


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, ["--standalone"]),
        ({"PORT": "1234"}, ["--master_port=1234", "--nnodes=1", "--master_addr=127.0.0.1"]),
        (
            {"NNODES": "2", "NODE_RANK": "1", "MASTER_ADDR": "host"},
            ["--nnodes=2", "--node_rank=1", "--master_addr=host", "--master_port=29500"],
        ),
    ],
)
def test_rendezvous_follows_the_environment(
    variables: dict, expected: list[str], tmp_path: Path, fake_python: Path
):
    result = run(
        TOOLS / "dist_test.sh",
        "a config.py",
        "weights.pth",
        3,
        "--out",
        "my results.pkl",
        cwd=tmp_path,
        PYTHON=str(fake_python),
        **variables,
    )
    assert result.returncode == 0, result.stderr
    words = calls(tmp_path)
    check, launch = words[: words.index("--check")], words[words.index("--check") + 1 :]
    tool = [str(TOOLS / "test.py"), "a config.py", "weights.pth", "--out", "my results.pkl"]
    assert check == tool
    assert launch[:2] == ["-m", "torch.distributed.run"]
    assert launch[-8:] == ["--nproc_per_node=3", *tool, "--launcher", "pytorch"]
    assert set(expected) <= set(launch)


def test_slurm_passes_options_to_srun(tmp_path: Path, fake_python: Path):
    (tmp_path / "srun").write_text(fake_python.read_text())
    (tmp_path / "srun").chmod(0o755)
    result = run(
        TOOLS / "slurm_train.sh",
        "gpu part",
        "job",
        "config.py",
        "my work",
        "--amp",
        cwd=tmp_path,
        PATH=f"{tmp_path}:{os.environ['PATH']}",
        GPUS="4",
        SRUN_ARGS="--time=1:00 --qos=low",
    )
    assert result.returncode == 0, result.stderr
    words = calls(tmp_path)
    assert {
        "--partition=gpu part",
        "--ntasks=4",
        "--gres=gpu:4",
        "--time=1:00",
        "--qos=low",
    } <= set(words)
    tool = words[words.index("-u") + 1 :]
    assert tool == [
        str(TOOLS / "train.py"),
        "config.py",
        "--work-dir",
        "my work",
        "--amp",
        "--launcher",
        "slurm",
    ]


@pytest.mark.parametrize(
    ("words", "config", "images", "draw"),
    [
        ([], "mask-rcnn_quadmamba-demo_fpn_shapes", 4, "draw_detection_sheet.py"),
        (["detection"], "mask-rcnn_quadmamba-demo_fpn_shapes", 4, "draw_detection_sheet.py"),
        (["segmentation"], "upernet_quadmamba-demo_shapes", 8, "draw_segmentation_sheet.py"),
        (["classification"], "quadmamba-demo_shapes", 32, "draw_classification_sheet.py"),
    ],
)
def test_demo_runs_the_task(
    words: list[str], config: str, images: int, draw: str, tmp_path: Path, fake_python: Path
):
    work_dir = tmp_path / "my work"
    (work_dir / "test/20260101_000000").mkdir(parents=True)
    (work_dir / "last_checkpoint").write_text("last.pth")
    # The interpreter is asked for the number of GPUs first.
    fake_python.write_text(fake_python.read_text() + '[ "$1" != -c ] || echo 1\n')
    result = run(
        TOOLS / "demo/demo.sh",
        *words,
        "--amp",
        cwd=tmp_path,
        PYTHON=str(fake_python),
        WORK_DIR=str(work_dir),
    )
    assert result.returncode == 0, result.stderr
    called = calls(tmp_path)
    assert any(word.endswith(f"/{config}.py") for word in called)
    assert f"train_dataloader.batch_size={images}" in called
    assert str(TOOLS / "analysis_tools" / draw) in called
    assert called[-1] == str(work_dir / "test/20260101_000000/20260101_000000.json")
    train = called.index("--resume")
    assert called[train : train + 3] == ["--resume", "auto", "--amp"]


def test_demo_refuses_an_unknown_task(tmp_path: Path):
    result = run(TOOLS / "demo/demo.sh", "tracking", cwd=tmp_path)
    assert result.returncode == 2
    assert "must be detection, segmentation or classification, got: 'tracking'" in result.stderr


@pytest.mark.slow
def test_two_cpu_processes_train_resume_and_test(tmp_path: Path):
    data = generate_shapes_coco(tmp_path / "my data", 6, 2)
    common = ["--data-root", data, "--work-dir", "run"]
    options = ["--cfg-options", "train_dataloader.batch_size=2", "train_cfg.val_interval=9"]
    options += ["default_hooks.checkpoint.interval=1", "default_hooks.logger.interval=1"]

    train = [TOOLS / "dist_train.sh", os.path.relpath(DEMO, tmp_path), 2, *common]
    first = run(*train, *options, "train_cfg.max_epochs=1", cwd=tmp_path)
    assert first.returncode == 0, first.stderr[-3000:]
    assert "communicate by gloo" in first.stderr + first.stdout
    second = run(*train, "--resume", *options, "train_cfg.max_epochs=2", cwd=tmp_path)
    assert second.returncode == 0, second.stderr[-3000:]

    logged = []
    for log in sorted(tmp_path.glob("run/*/vis_data/scalars.json")):
        logged.append([json.loads(line) for line in log.read_text().splitlines()])
    trained = [[row["step"] for row in rows if "loss" in row] for rows in logged]
    assert trained == [[1, 2], [3, 4]]

    test = [TOOLS / "dist_test.sh", DEMO, "run/epoch_2.pth", 2, "--data-root", data]
    tested = run(*test, "--work-dir", "run/test", "--out", "run/results.pkl", cwd=tmp_path)
    assert tested.returncode == 0, tested.stderr[-3000:]
    assert (tmp_path / "run/results.pkl").stat().st_size > 0
