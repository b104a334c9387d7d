"""How `make env` runs commands: with a log, a line of progress, and what to do about a failure.

Standard library only, and readable by Python 3.8: it runs before any environment exists.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from setup_checks import SetupError

# pip and user settings that would send packages elsewhere than into the environment.
DIVERTING = ("PYTHONHOME", "PYTHONPATH", "PIP_TARGET", "PIP_PREFIX")
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
        self.variables["PIP_USER"] = "0"  # over a pip.conf that says otherwise, too
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
