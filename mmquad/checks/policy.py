"""Which checks run, what each of them finds, and how they are switched off.

There is one rule. What a check finds is either

* a **fact**: a file is absent, empty or cut off, a shape does not fit, a number is NaN, a label
  means one class here and another there. Going on would fail later or give wrong results in
  silence: it ends the run with an error.
* a **guess**: what a file in an unknown dialect means, which heads should have as many classes as
  the data, whether anybody reads an option. Your own code may know better: it is a warning, which
  names the key of the config and what to do.

There is one switch, the variable ``MMQUAD_CHECKS`` of the environment: launchers hand it to every
process, and it is there for the hooks when other tools start the run. ``--no-checks`` and
``--skip-check`` of tools/train.py and tools/test.py set it.
"""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from mmquad.errors import SetupError

__all__ = ["CHECKS", "VARIABLE", "Check", "is_on", "report", "switch_off"]

VARIABLE = "MMQUAD_CHECKS"


@dataclass(frozen=True)
class Check:
    """One check.

    Args:
        name: By which messages name it, and by which it is switched off.
        kind: ``fact``: what it finds ends the run. ``guess``: what it finds is a warning.
        when: At which moment of a run it looks.
        finds: What it looks for.
    """

    name: str
    kind: Literal["fact", "guess"]
    when: str
    finds: str


_BEFORE = "before anything is built"
_DATA = "before the first iteration (`mmquad.ClassCheckHook`)"
_WEIGHTS = "when weights are loaded (`mmquad.StrictWeightsHook`)"

CHECKS: dict[str, Check] = {
    check.name: check
    for check in (
        Check("environment", "fact", _BEFORE, "packages that are missing or do not fit together"),
        Check("work-dir", "fact", _BEFORE, "a work dir that cannot be written or is in use"),
        Check(
            "option-arguments",
            "fact",
            _BEFORE,
            "`--cfg-options` naming an argument that the class at that place does not take",
        ),
        Check(
            "unread-options",
            "guess",
            _BEFORE,
            "`--cfg-options` naming a key that no part of a run reads by that name",
        ),
        Check(
            "weight-decay",
            "guess",
            _BEFORE,
            "a weight decay that pulls the state-space parameters towards zero too",
        ),
        Check(
            "checkpoint-files",
            "fact",
            _BEFORE,
            "local checkpoints that are absent, empty, cut off, or no checkpoints",
        ),
        Check("data-paths", "fact", _BEFORE, "local files and folders of data that are absent"),
        Check(
            "annotation-files",
            "fact",
            _BEFORE,
            "annotation files that are empty, cut off, a web page, or in COCO's format without "
            "images or categories",
        ),
        Check(
            "annotations",
            "guess",
            _BEFORE,
            "files in COCO's format without annotations where something is to be learned or "
            "measured",
        ),
        Check(
            "labels",
            "fact",
            _DATA,
            "one label for several classes: names in another order in `classes`, annotation "
            "files, folders, validation data or the checkpoint; two categories of one name",
        ),
        Check(
            "class-names",
            "guess",
            _DATA,
            "classes that an annotation file, the training data or the checkpoint do not name",
        ),
        Check(
            "head-classes",
            "guess",
            _DATA,
            "heads with another `num_classes` than the data has classes",
        ),
        Check(
            "zero-label",
            "guess",
            _DATA,
            "`reduce_zero_label` on in the training data or the checkpoint and off in the data of "
            "validation or test, or the other way round",
        ),
        Check(
            "weights",
            "fact",
            _WEIGHTS,
            "missing, misshapen and non-finite weights, other settings of the backbone, a "
            "resumption without the state of a training",
        ),
        Check(
            "unused-weights",
            "guess",
            _WEIGHTS,
            "parts of the checkpoint that the model was built without, e.g. `auxiliary_head=None`",
        ),
        Check(
            "finite",
            "fact",
            "every iteration (`mmquad.FiniteGuardHook`)",
            "losses and gradients that are NaN or infinite",
        ),
        Check("images", "fact", "when an image cannot be read", "damaged images, by name"),
    )
}
"""By name, in the order in which they run."""


def is_on(name: str) -> bool:
    """Whether a check is to run, by the environment variable ``MMQUAD_CHECKS``.

    Unset or ``1``: all; ``0``: none; ``-NAME,-NAME``: all but those.

    Args:
        name: Of :data:`CHECKS`.

    Raises:
        SetupError: The variable says something else.
    """
    assert name in CHECKS, name
    return name not in _switched_off()


def switch_off(names: Iterable[str]) -> None:
    """Switch checks off in this process and those it starts, besides those that are off already.

    Args:
        names: Of :data:`CHECKS`.

    Raises:
        SetupError: There is no check of a name, or ``MMQUAD_CHECKS`` cannot be read.
    """
    off = _switched_off() | _known(names)
    if off:
        everything = off == set(CHECKS)
        os.environ[VARIABLE] = "0" if everything else ",".join(f"-{name}" for name in sorted(off))


def report(name: str, message: str, warn: Callable[[str], object]) -> None:
    """Say what a check has found: as an error if it is a fact, as a warning if it is a guess.

    Args:
        name: Of :data:`CHECKS`; nothing is said if it is switched off.
        message: What is wrong, naming the config's key, and what to do.
        warn: Takes the text of a warning.

    Raises:
        SetupError: The check finds facts.
    """
    if not is_on(name):
        return
    message = f"{message}\n(To run without this check: {VARIABLE}=-{name})"
    if CHECKS[name].kind == "fact":
        raise SetupError(message)
    warn(message)


def _switched_off() -> set[str]:
    value = os.environ.get(VARIABLE, "").strip()
    if value in ("", "1"):
        return set()
    if value == "0":
        return set(CHECKS)
    words = value.replace(",", " ").split()
    if not all(word.startswith("-") for word in words):
        raise SetupError(
            f"{VARIABLE} must be 0 (no checks), 1 (all) or -NAME,-NAME (all but those), "
            f"got {value!r}."
        )
    return _known(word[1:] for word in words)


def _known(names: Iterable[str]) -> set[str]:
    names = set(names)
    if unknown := sorted(names - set(CHECKS)):
        raise SetupError(f"There is no check {', '.join(unknown)}; there are {', '.join(CHECKS)}.")
    return names
