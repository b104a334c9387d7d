"""The working parts of `make env`: run a command with a log and progress, and install mmcv.

Standard library only, and readable by Python 3.8: it runs before any environment exists.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from setup_checks import Interpreter, SetupError, check_build_tools, check_disk

# pip and user settings that would send packages elsewhere than into the environment.
DIVERTING = ("PYTHONHOME", "PYTHONPATH", "PIP_USER", "PIP_TARGET", "PIP_PREFIX")
BUILD_GIB = 1.5
ACTIVITY = re.compile(
    r"\[(?P<done>\d+)/(?P<total>\d+)\](?:.* -c \S*/(?P<source>[\w.]+))?"
    r"|(?P<pip>(?:Downloading|Building|Installing) [^\n]{1,80})"
)


def elapsed(seconds: float) -> str:
    """`75` as `1 min 15 s`."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def last_activity(output: str) -> str:
    """What the end of a pip or ninja log says is going on, in a few words."""
    matches = list(ACTIVITY.finditer(output))
    if not matches:
        return ""
    last = matches[-1]
    if last["pip"]:
        return last["pip"].strip()
    return f"compiled {last['done']} of {last['total']} {last['source'] or ''}".strip()


class Environment:
    """A virtual environment that is being built, and the log of everything run to build it."""

    def __init__(self, folder: Path, root: Path, rerun: str, lock: int) -> None:
        self.folder = folder
        self.lock = lock
        self.root = root
        self.rerun = rerun
        self.log = folder / "setup.log"
        self.python = folder / "bin" / "python"
        self.constraints = folder / "constraints.txt"
        self.variables = {k: v for k, v in os.environ.items() if k not in DIVERTING}
        # ninja and hatchling live in the environment; torch's build looks for ninja on PATH.
        self.variables["PATH"] = f"{folder / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
        self.variables["PYTHONNOUSERSITE"] = "1"
        self.variables["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"

    def step(
        self,
        title: str,
        command: list[str],
        extra: dict[str, str] | None = None,
        failed: str = "FAILED",
    ) -> None:
        """Run `command`, its output in the log, a line of progress on the terminal.

        Args:
            title: What the user reads.
            command: The command line.
            extra: Environment variables beside the usual ones.
            failed: The word for a failure; some failures are an answer.

        Raises:
            SetupError: the command failed; the message has its last lines and the command to rerun.
        """
        start = time.monotonic()
        reported = start
        live = sys.stdout.isatty()
        with open(self.log, "ab") as log:
            log.write(f"\n$ {' '.join(command)}\n".encode())
            log.flush()
            begin = log.tell()
            process = subprocess.Popen(
                command,
                cwd=self.root,
                env={**self.variables, **(extra or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Should this process be killed, the lock is held until the command ends too.
                pass_fds=(self.lock,),
            )
            print(f"  {title} ...", end="" if live else "\n", flush=True)
            try:
                while process.poll() is None:
                    try:
                        process.wait(timeout=1)
                    except subprocess.TimeoutExpired:
                        now = time.monotonic()
                        if live or now - reported >= 60:
                            reported = now
                            self._progress(title, now - start, begin, live)
            except BaseException:
                process.kill()
                process.wait()
                raise
        line = f"  {title}: {failed if process.returncode else 'done'}"
        line += f" in {elapsed(time.monotonic() - start)}"
        print(f"\r{line}\033[K" if live else line, flush=True)
        if process.returncode:
            tail = [row for row in self._output_since(begin).splitlines() if row.strip()][-8:]
            raise SetupError(
                f"{title}: the command ended with status {process.returncode}. Its last lines:\n"
                + "\n".join(f"    {row[:200]}" for row in tail)
                + f"\nAll of its output: {self.log}\n"
                + f"If this was the network, run it again: {self.rerun}"
            )

    def _output_since(self, begin: int) -> str:
        with open(self.log, "rb") as log:
            log.seek(max(begin, self.log.stat().st_size - 65536))
            return log.read().decode(errors="replace")

    def _progress(self, title: str, seconds: float, begin: int, live: bool) -> None:
        doing = last_activity(self._output_since(begin))
        line = f"  {title} ... {elapsed(seconds)}{', ' if doing else ''}{doing}"
        if live:
            line = f"\r{line[: shutil.get_terminal_size().columns - 1]}\033[K"
        print(line, end="" if live else "\n", flush=True)

    def pip(self, *arguments: str) -> list[str]:
        """The command line of this environment's pip."""
        return [str(self.python), "-m", "pip", *arguments]

    def ask(self, code: str) -> tuple[bool, str]:
        """Run `code` with the environment's Python: whether it succeeded, and its output."""
        done = subprocess.run(
            [str(self.python), "-c", code],
            env=self.variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return done.returncode == 0, done.stdout.strip()


class Torch(NamedTuple):
    """The torch that mmcv has to fit."""

    version: str
    cuda: str | None
    capability: str | None  # of the first GPU, e.g. "90"; None without a usable GPU
    nvcc: str | None  # nvcc's release, e.g. "13.0"

    @property
    def can_compile_cuda(self) -> bool:
        """torch refuses an nvcc of another major version than its own CUDA."""
        if not self.cuda or not self.nvcc:
            return False
        return self.nvcc.split(".")[0] == self.cuda.split(".")[0]

    @property
    def ops(self) -> str:
        """The kind of ops to build: `cpu`, or CUDA version and architectures (`cu130-sm90`)."""
        forced = os.environ.get("FORCE_CUDA", "0") == "1"
        if not self.can_compile_cuda or not (self.capability or forced):
            return "cpu"
        architectures = os.environ.get("TORCH_CUDA_ARCH_LIST") or f"sm{self.capability or 'all'}"
        digits = str(self.cuda).replace(".", "")
        return f"cu{digits}-" + re.sub(r"[^A-Za-z0-9+]+", "_", architectures)


ASK_TORCH = """
import json, torch
from torch.utils.cpp_extension import CUDA_HOME
gpu = torch.cuda.is_available()
capability = "%d%d" % torch.cuda.get_device_capability(0) if gpu else None
print("\\n" + json.dumps([torch.__version__, torch.version.cuda, capability, CUDA_HOME]))
"""
# Loads the extension by its path: `import mmcv` would need mmcv's dependencies, which come later.
# `not available` is what mmcv answers when its ops were compiled for the CPU alone.
ASK_MMCV = """
import importlib.util, pathlib, torch
folder = pathlib.Path(importlib.util.find_spec("mmcv").origin).parent
files = list(folder.glob("_ext*.so"))
if not files:
    raise SystemExit("it has no compiled ops")
spec = importlib.util.spec_from_file_location("mmcv._ext", files[0])
ops = importlib.util.module_from_spec(spec)
spec.loader.exec_module(ops)
print("CUDA:", ops.get_compiling_cuda_version())
"""


def find_torch(env: Environment) -> Torch:
    """Ask the environment's torch about itself and about the CUDA toolkit it would compile with."""
    worked, output = env.ask(ASK_TORCH)
    if not worked:
        raise SetupError(f"torch is installed but does not import:\n{output[-1500:]}")
    version, cuda, capability, cuda_home = json.loads(output.splitlines()[-1])
    nvcc = None
    if cuda_home:
        try:
            text = subprocess.run(
                [os.path.join(cuda_home, "bin", "nvcc"), "--version"],
                stdout=subprocess.PIPE,
                text=True,
            ).stdout
            release = re.search(r"release (\d+\.\d+)", text)
            nvcc = release and release[1]
        except OSError:
            pass
    return Torch(version, cuda, capability, nvcc)


def wheel_folder(distribution: str, version: str, python: str, torch: Torch) -> Path:
    """Where a compiled mmcv is kept; the name holds all that decides whether it fits.

    pip's own wheel cache knows neither the torch nor the CUDA that a wheel was compiled for.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    tag = "cp" + python.replace(".", "")
    public = torch.version.split("+")[0]
    key = f"{distribution}-{version}-{tag}-torch{public}-{torch.ops}"
    return cache / "mmquad" / "wheels" / key


def mmcv_fault(env: Environment, torch: Torch) -> str | None:
    """Why the installed mmcv cannot be used with this torch; None if it can."""
    worked, output = env.ask(ASK_MMCV)
    if not worked:
        lines = output.splitlines()
        return lines[-1][:300] if lines else "its import ended the process"
    if torch.ops != "cpu" and "CUDA: not available" in output:
        return "it has no CUDA ops, and this machine has a GPU and nvcc"
    return None


def install_mmcv(
    env: Environment, distribution: str, version: str, interpreter: Interpreter
) -> None:
    """Install an mmcv whose compiled ops load, from the first source that has one.

    The order: what is installed already, this machine's own cache of compiled wheels, a binary
    wheel that pip finds (PIP_FIND_LINKS), the source distribution.
    """
    torch = find_torch(env)
    requirement = f"{distribution}=={version}"
    if torch.capability and torch.ops == "cpu":
        print(
            f"  note: there is a GPU, but no nvcc of CUDA {torch.cuda}: mmcv gets CPU ops only. "
            "Detection needs its CUDA ops to run on the GPU; segmentation and classification "
            "do not."
        )
    installed, output = env.ask(
        f"import importlib.metadata as m; print(m.version('{distribution}'))"
    )
    if installed and output == version and mmcv_fault(env, torch) is None:
        return
    install = ("install", "--no-deps", "--force-reinstall", "--no-cache-dir")
    folder = wheel_folder(distribution, version, interpreter.minor, torch)
    for wheel in sorted(folder.glob("*.whl")):
        env.step(f"mmcv: {requirement} from {folder}", env.pip(*install, str(wheel)))
        fault = mmcv_fault(env, torch)
        if fault is None:
            return
        print(f"  the cached wheel does not work ({fault}); removing it")
        wheel.unlink()
    try:
        binary = f"--only-binary={distribution}"
        env.step(
            f"mmcv: looking for a wheel of {requirement}",
            env.pip(*install, binary, requirement),
            failed="found none",
        )
    except SetupError:
        print("  no ready wheel; it has to be compiled")
    else:
        fault = mmcv_fault(env, torch)
        if fault is None:
            return
        print(f"  that wheel does not fit torch {torch.version} ({fault}); compiling instead")
    wheel = build_mmcv(env, requirement, folder, torch, interpreter)
    env.step(f"mmcv: {requirement} from {folder}", env.pip(*install, str(wheel)))
    fault = mmcv_fault(env, torch)
    if fault:
        raise SetupError(
            f"mmcv was compiled but its ops do not load: {fault}\nThe whole output: {env.log}"
        )


def build_mmcv(
    env: Environment, requirement: str, folder: Path, torch: Torch, interpreter: Interpreter
) -> Path:
    """Compile mmcv against the installed torch and put the wheel into the cache."""
    check_build_tools(interpreter)
    check_disk({Path(tempfile.gettempdir()): BUILD_GIB, folder: 0.1})
    cores = len(os.sched_getaffinity(0))
    jobs = os.environ.get("MAX_JOBS", str(cores))
    print(
        f"  Compiling {requirement} for torch {torch.version} ({torch.ops} ops) with {jobs} jobs: "
        "about 15 minutes on 2 cores, longer with CUDA. It happens once: the wheel is kept in\n"
        f"  {folder}"
    )
    variables = {"MAX_JOBS": jobs}
    if torch.ops == "cpu":
        # mmcv's build turns to CUDA whenever it sees a GPU, and stops if nvcc does not fit.
        variables.update(CUDA_VISIBLE_DEVICES="", FORCE_CUDA="0")
    name = requirement.split("==")[0]
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Beside its destination, so that the rename below stays on one filesystem and is atomic.
    with tempfile.TemporaryDirectory(prefix=".building-", dir=folder.parent) as scratch:
        env.step(
            f"mmcv: compiling {requirement}",
            env.pip(
                *("wheel", "-v", "--no-build-isolation", "--no-cache-dir", "--no-deps"),
                *(f"--no-binary={name}", "--wheel-dir", scratch, requirement),
            ),
            variables,
        )
        wheel = next(Path(scratch).glob("*.whl"))
        folder.mkdir(exist_ok=True)
        os.replace(wheel, folder / wheel.name)
    return folder / wheel.name
