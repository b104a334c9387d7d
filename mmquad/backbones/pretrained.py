"""How pretrained weights get into a backbone, and out of one."""

import os
import re
from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import Any

from mmengine.logging import print_log
from mmengine.model import BaseModule
from torch import Tensor, nn
from typing_extensions import Self

from mmquad.checkpoints.download import read_checkpoint_from
from mmquad.checkpoints.files import CheckpointFileError
from mmquad.checkpoints.hub import WEIGHTS_FILE
from mmquad.checkpoints.in_channels import adapt_in_channels as fit_in_channels
from mmquad.checkpoints.loading import (
    CheckpointMismatchError,
    check_settings,
    extract_state_dict,
    load_strict,
    take_prefix,
)
from mmquad.checkpoints.safetensors_files import write_safetensors
from mmquad.compat import runner_checkpoint_globals
from mmquad.registry import MODELS, RELEASED_WEIGHTS

__all__ = ["PretrainedBackbone"]

_BACKBONE = "backbone."
_SUFFIXES = {".safetensors", ".pth", ".pt", ".ckpt", ".bin"}


class PretrainedBackbone(BaseModule):
    """What all backbones do with checkpoints: ``init_cfg``, ``from_pretrained``."""

    init_cfg: dict | list[dict] | None
    arch: Any  # a NamedTuple
    in_channels: int

    def settings(self) -> dict[str, Any]:
        """Arguments that change the outputs of given weights but the shape of none."""
        return {}

    @classmethod
    def arguments_told_by(cls, weights: Mapping[str, Tensor]) -> dict[str, Any]:
        """Arguments, besides the arch and settings, that weights of this family need."""
        del weights
        return {}

    def adapt_pretrained(self, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights of a checkpoint as this model's sizes need them, before the strict comparison."""
        return dict(state_dict)

    def tolerated_entries(self) -> dict[str, list[str]]:
        """Prefixes of the entries that other models of the architecture lack, and have besides."""
        return {}

    def init_weights(self) -> None:
        """Initialise by ``init_cfg``; last, strictly, a checkpoint (``type='Pretrained'``).

        Raises:
            CheckpointMismatchError: The checkpoint does not fit; none of it has been loaded.
        """
        init_cfg = self.init_cfg
        configs = init_cfg if isinstance(init_cfg, list) else [init_cfg] if init_cfg else []
        self.init_cfg = [config for config in configs if config["type"] != "Pretrained"] or None
        try:
            super().init_weights()
        finally:
            self.init_cfg = init_cfg
        for config in configs:
            if config["type"] == "Pretrained":
                self._load_pretrained(**{k: v for k, v in config.items() if k != "type"})

    def _load_pretrained(
        self,
        checkpoint: str,
        prefix: str | None = None,
        map_location: str = "cpu",
        ignore_settings: bool = False,
        adapt_in_channels: str | None = None,
    ) -> None:
        del map_location  # of mmengine's; read on the CPU, weights are copied to where the model is
        loaded = read_checkpoint_from(checkpoint, allowed=runner_checkpoint_globals())
        self._take_weights(loaded, checkpoint, prefix, ignore_settings, adapt_in_channels)
        # mmengine's own report of init_weights is made before this and calls nothing changed
        print_log(f"All weights of {type(self).__name__} are from {checkpoint}.", "current")

    def _take_weights(
        self,
        loaded: Mapping[str, Any],
        source: str,
        prefix: str | None,
        ignore_settings: bool,
        adapt_in_channels: str | None,
    ) -> None:
        if not ignore_settings:
            check_settings(loaded, self.settings(), source=source)
        weights = self.adapt_pretrained(take_prefix(extract_state_dict(loaded), prefix))
        if adapt_in_channels is not None:
            weights = fit_in_channels(self.state_dict(), weights, adapt_in_channels)
        load_strict(self, weights, source=source, **self.tolerated_entries())

    @classmethod
    def from_pretrained(
        cls,
        source: str | os.PathLike[str],
        *,
        ignore_settings: bool = False,
        adapt_in_channels: str | None = None,
        **arguments: Any,
    ) -> Self:
        """A backbone with pretrained weights, in evaluation mode, on the CPU.

        Which model it is, its arch and its settings are read from the weights, and its outputs are
        those whose norms they have: of a classifier's the last. Called on
        :class:`mmquad.backbones.VisionBackbone` it returns whatever family they are of.

        Args:
            source: A folder with ``model.safetensors`` (``export_hub.py`` and
                :meth:`save_pretrained` write it), a file that ``convert_checkpoint.py`` wrote, an
                address (``hf://owner/name@revision``, a URL), or the registered name of an official
                release, e.g. ``vmamba-tiny-s1l8_8xb128_in1k``. A path that exists comes first.
            ignore_settings: Take the weights for a model of other settings.
            adapt_in_channels: ``"sum"`` or ``"repeat"``, with another ``in_channels``:
                :func:`mmquad.checkpoints.in_channels.adapt_in_channels`.
            **arguments: Arguments of the family, in place of those that the weights name.

        Raises:
            CheckpointFileError: There is no such file or name, or it cannot be opened.
            CheckpointMismatchError: The weights do not say for which model they are, or are for
                another, or do not fit entirely.

        Example:
            >>> model = QuadMamba.from_pretrained("hf://owner/name")  # doctest: +SKIP
        """
        loaded = _read_pretrained(source)
        meta, prefix = loaded.get("meta") or {}, _prefix_of(loaded)
        family = _class_for(cls, meta, str(source))
        weights = take_prefix(extract_state_dict(loaded), prefix)
        model = family(**_arguments_for(family, meta, weights, arguments))
        model._take_weights(loaded, str(source), prefix, ignore_settings, adapt_in_channels)
        return model.eval()

    def description(self) -> dict[str, Any]:
        """What weights of this backbone have to say of themselves, for :meth:`from_pretrained`."""
        return {
            "model": type(self).__name__,
            "arch": self.arch._asdict(),
            "settings": self.settings(),
            "in_channels": self.in_channels,
        }

    def save_pretrained(self, folder: str | os.PathLike[str]) -> Path:
        """Write ``model.safetensors``, which :meth:`from_pretrained` reads, into a folder.

        Returns:
            The file.
        """
        path = Path(folder) / WEIGHTS_FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        write_safetensors(path, self.state_dict(), self.description())
        return path


def _read_pretrained(source: str | os.PathLike[str]) -> Mapping[str, Any]:
    """Content of a checkpoint, with ``state_dict`` and ``meta``.

    Args:
        source: A folder with ``model.safetensors``, a file, an address (``hf://owner/name``, a
            URL), or the registered name of an official release. A path that exists comes first.

    Raises:
        CheckpointFileError: There is no such file or name, or it cannot be opened.
        CheckpointMismatchError: A release cannot be converted.
    """
    path, name = Path(source), str(source)
    if "://" not in name and path.is_dir():
        path = path / WEIGHTS_FILE
        if not path.is_file():
            there = sorted(file.name for file in path.parent.glob("*.safetensors"))
            raise CheckpointFileError(
                f"{path.parent} has no {WEIGHTS_FILE}; of such files it has {there or 'none'}. "
                "Name the file itself."
            )
        name = str(path)
    if "://" in name or path.exists() or len(path.parts) > 1 or path.suffix in _SUFFIXES:
        return read_checkpoint_from(name, allowed=runner_checkpoint_globals())
    read_release = RELEASED_WEIGHTS.get("read_registered")
    return read_release(name)


def _class_for(asked: type[nn.Module], meta: Mapping[str, Any], source: str) -> Any:
    """The class to build: the one that the weights name, or the subclass of it that was asked.

    Raises:
        CheckpointMismatchError: The weights are for another class, or do not say for which.
    """
    name = meta.get("model")
    if not isinstance(name, str):
        raise CheckpointMismatchError(
            f"{source} does not say which model it is for (meta has {sorted(map(str, meta))}).\n"
            "What to do: take the file that tools/model_converters/convert_checkpoint.py or "
            "export_hub.py writes; or build the backbone yourself, with init_cfg=dict("
            f"type='Pretrained', checkpoint={source!r}), and call init_weights()."
        )
    named = MODELS.get(f"mmquad.{name}")
    if named is None:
        raise CheckpointMismatchError(f"{source} is for {name}, which this version does not have")
    if issubclass(named, asked):
        return named
    if issubclass(asked, named):
        return asked
    raise CheckpointMismatchError(
        f"{source} holds weights of {name}, not of {asked.__name__}: call {name}.from_pretrained"
    )


def _arguments_for(
    family: Any, meta: Mapping[str, Any], weights: Mapping[str, Tensor], given: Mapping[str, Any]
) -> dict[str, Any]:
    """Arguments for the class: what the weights say, below what the caller says."""
    written = {name: meta[name] for name in ("arch", "in_channels") if name in meta}
    # Norms that were not trained would be left as they are made.
    normed = sorted(int(m[1]) for name in weights if (m := re.match(r"norm(\d+)\.weight", name)))
    if normed:
        written["out_indices"] = normed
    # Settings that are fields of the arch come with it.
    known = {name for each in family.__mro__ for name in signature(each).parameters}
    settings = {k: v for k, v in (meta.get("settings") or {}).items() if k in known}
    return {**written, **settings, **family.arguments_told_by(weights), **given}


def _prefix_of(checkpoint: Mapping[str, Any]) -> str | None:
    """``backbone.`` where a checkpoint has more than the backbone."""
    has = any(name.startswith(_BACKBONE) for name in extract_state_dict(checkpoint))
    return _BACKBONE if has else None
