"""Find the files and folders a config reads, and say which of them are missing.

mmengine opens them one by one after the model is built, so a missing folder shows up minutes
later as a traceback about the first file only.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmquad.checkpoints import CheckpointFileError
from mmquad.checkpoints.download import check_address
from mmquad.checkpoints.files import check_file
from mmquad.checkpoints.hub import HUB_SCHEME
from mmquad.checks.policy import is_on, report
from mmquad.errors import SetupError

__all__ = [
    "DataPath",
    "check_checkpoints",
    "check_data",
    "data_paths",
    "datasets",
    "evaluators",
    "set_data_root",
]

# mmpretrain fetches these where their folder is absent, unless download=False.
_DOWNLOADED = {"MNIST", "FashionMNIST", "CIFAR10", "CIFAR100"}


@dataclass(frozen=True)
class DataPath:
    """A path a config reads.

    Args:
        path: As the config has it, joined with its ``data_root``.
        is_folder: Whether a folder is expected, which then must not be empty. Elsewhere, either
            will do: mmseg takes a folder for a list of files too.
        key: Where the config says so, for example ``train_dataloader.dataset.ann_file``.
        reader: Type of the data set or metric that reads it, without its scope.
        pipeline: Of the data set.
    """

    path: Path
    is_folder: bool
    key: str
    reader: str = ""
    pipeline: Sequence[Any] = ()

    def missing(self) -> str | None:
        """The reason why this path cannot be used, or None."""
        if not self.path.exists():
            return "missing"
        if not self.is_folder:
            return None
        if not self.path.is_dir():
            return "not a folder"
        if next(self.path.iterdir(), None) is None:
            return "empty"
        return None


def datasets(dataset: object, key: str) -> Iterator[tuple[str, dict]]:
    """Innermost dataset configs of (wrapped) ``dataset`` with their dotted keys.

    Follows ``dataset`` (RepeatDataset, ClassBalancedDataset, MultiImageMixDataset, ...) and
    ``datasets`` (ConcatDataset).
    """
    if not isinstance(dataset, dict):
        return
    if "dataset" in dataset:
        yield from datasets(dataset["dataset"], f"{key}.dataset")
    elif "datasets" in dataset:
        for index, inner in enumerate(dataset["datasets"]):
            yield from datasets(inner, f"{key}.datasets.{index}")
    else:
        yield key, dataset


def evaluators(cfg: Config, split: str) -> list[dict[str, Any]]:
    """Configs of the metrics of ``val`` or ``test``."""
    found = cfg.get(f"{split}_evaluator") or []
    if isinstance(found, dict):
        found = found.get("metrics", found)  # an Evaluator holds metrics
    return [found] if isinstance(found, dict) else list(found)


def data_paths(cfg: Config, splits: tuple[str, ...]) -> list[DataPath]:
    """Local paths read by the dataloaders and evaluators of ``splits``.

    Args:
        cfg: A config of mmdet, mmseg or mmpretrain.
        splits: Of ``train``, ``val`` and ``test``.

    Returns:
        Every path once, in the order of the config. What a file client reads from elsewhere
        (``s3://``, or ``backend_args`` of another backend than the local one, which may map paths
        that look local) is left out.
    """
    found: dict[Path, DataPath] = {}
    for split in splits:
        loader = cfg.get(f"{split}_dataloader") or {}
        for key, dataset in datasets(loader.get("dataset"), f"{split}_dataloader.dataset"):
            for data_path in _dataset_paths(dataset, key):
                found.setdefault(data_path.path, data_path)
        for evaluator in evaluators(cfg, split):
            ann_file = evaluator.get("ann_file")
            if isinstance(ann_file, str) and ann_file and _is_local(evaluator, ann_file):
                path = Path(ann_file)
                key = f"{split}_evaluator.ann_file"
                found.setdefault(path, DataPath(path, False, key, _type(evaluator)))
    return list(found.values())


def check_data(cfg: Config, splits: tuple[str, ...], warn: Callable[[str], object]) -> None:
    """Raise if anything ``splits`` read is missing.

    Args:
        cfg: A config of mmdet, mmseg or mmpretrain.
        splits: Of ``train``, ``val`` and ``test``.
        warn: Takes the text of a warning.

    Raises:
        SetupError: Naming all missing paths at once, the expected tree and what to do.
    """
    paths = data_paths(cfg, splits)
    reasons = {item.path: item.missing() for item in paths}
    missing = [item for item in paths if reasons[item.path]]
    if not missing:
        return
    tree = "\n".join(
        f"  {str(item.path) + '/' * item.is_folder:<60} {reasons[item.path] or 'ok'}"
        for item in paths
    )
    hint = cfg.get("data_hint") or "link or copy the data there"
    report(
        "data-paths",
        f"Data is missing: {len(missing)} of the {len(paths)} paths that this config reads.\n\n"
        f"Expected (relative to {Path.cwd()}):\n{tree}\n\n"
        f"What to do: {hint},\n"
        "or name the folder that holds it: --data-root /path/to/data\n"
        "or set single paths: --cfg-options "
        + " ".join(f"{item.key}=/path/to/{item.path.name}" for item in missing[:2]),
        warn,
    )


def set_data_root(cfg: Config, data_root: str) -> None:
    """Make datasets and evaluators of all splits read from ``data_root``.

    ``--cfg-options data_root=...`` cannot do this: by then the bases' paths are plain strings.

    Raises:
        SetupError: If the datasets of the config have several roots.
    """
    found = [
        dataset
        for split in ("train", "val", "test")
        for _, dataset in datasets((cfg.get(f"{split}_dataloader") or {}).get("dataset"), "")
    ]
    roots = {str(Path(dataset["data_root"])) for dataset in found if dataset.get("data_root")}
    if len(roots) != 1:
        raise SetupError(
            f"--data-root needs a config whose datasets share one data_root, got {sorted(roots)}; "
            "set each with --cfg-options train_dataloader.dataset.data_root=... instead."
        )
    old_root = Path(roots.pop())
    for dataset in found:
        dataset["data_root"] = data_root
    for split in ("val", "test"):
        for evaluator in evaluators(cfg, split):
            if not isinstance(evaluator.get("ann_file"), str):
                continue
            ann_file = Path(evaluator["ann_file"])
            if ann_file.is_relative_to(old_root):
                evaluator["ann_file"] = str(Path(data_root) / ann_file.relative_to(old_root))


def check_checkpoints(cfg: Config, warn: Callable[[str], object], *, initial_weights: bool) -> None:
    """Raise if a local checkpoint that the run will load does not exist, or not in one piece.

    Of one on the hub (``hf://``) it is checked that its address can be one.

    Args:
        cfg: The config.
        warn: Takes the text of a warning.
        initial_weights: Whether ``init_cfg`` of the model and its parts will be used; a test
            takes all weights from ``load_from``.

    Raises:
        SetupError: Naming the config key, the file and what is wrong with it.
    """
    if not is_on("checkpoint-files"):
        return
    wanted = [("load_from", cfg.get("load_from"))]
    if initial_weights:
        wanted += _initial_checkpoints(cfg.get("model"), "model")
    for key, checkpoint in wanted:
        is_hub = str(checkpoint).startswith(HUB_SCHEME)
        if not checkpoint or not (is_hub or _is_local({}, checkpoint)):
            continue
        try:
            if is_hub:
                check_address(checkpoint)
                continue
            kind = check_file(Path(checkpoint))
            if key == "load_from" and kind == "safetensors" and not _named_so(checkpoint):
                raise CheckpointFileError(
                    f"{checkpoint} is an intact safetensors file, but mmengine goes by file names: "
                    f"rename it to {Path(checkpoint).with_suffix('.safetensors').name}."
                )
        except CheckpointFileError as error:
            leave_out = "" if key == "load_from" else f", or train without: {key[:-11]}=None"
            message = f"The checkpoint to test cannot be used: {error}"
            if initial_weights:
                message = (
                    f"Checkpoint cannot be used (config key {key}): {error}\n"
                    f"What to do: correct it with --cfg-options {key}=/path/to/weights.pth"
                    f"{leave_out}"
                )
            report("checkpoint-files", message, warn)


def _dataset_paths(dataset: dict, key: str) -> Iterator[DataPath]:
    root = dataset.get("data_root") or ""
    reader, pipeline = _type(dataset), dataset.get("pipeline") or ()
    ann_file = dataset.get("ann_file")
    if isinstance(ann_file, str) and ann_file and _is_local(dataset, root, ann_file):
        yield DataPath(Path(root) / ann_file, False, f"{key}.ann_file", reader, pipeline)
    if reader in _DOWNLOADED and dataset.get("download", True):
        return
    prefixes = dataset.get("data_prefix") or {}
    # mmpretrain's ImageNet derives the folder from the split.
    if not prefixes and reader.endswith("ImageNet"):
        prefixes = dataset.get("split", "")
    if isinstance(prefixes, str):
        prefixes = {"": prefixes}
    loaders = [step for step in pipeline if isinstance(step, Mapping)]
    for name, prefix in prefixes.items():
        if prefix is None or not (root or prefix):
            continue
        if _is_local(dataset, root, prefix) and all(_is_local(step) for step in loaders):
            suffix = f".data_prefix.{name}" if name else ".data_prefix" if prefix else ".data_root"
            yield DataPath(Path(root) / prefix, True, key + suffix, reader, pipeline)


def _initial_checkpoints(part: object, key: str) -> list[tuple[str, str]]:
    if isinstance(part, list | tuple):
        return [x for i, item in enumerate(part) for x in _initial_checkpoints(item, f"{key}.{i}")]
    if not isinstance(part, dict):
        return []
    found = [x for name, item in part.items() for x in _initial_checkpoints(item, f"{key}.{name}")]
    if part.get("type") == "Pretrained" and part.get("checkpoint"):
        found.append((f"{key}.checkpoint", part["checkpoint"]))
    return found


def _named_so(checkpoint: str) -> bool:
    return Path(checkpoint).suffix == ".safetensors"


def _type(config: Mapping[str, Any]) -> str:
    kind = config.get("type")
    return getattr(kind, "__name__", str(kind)).rpartition(".")[2]


def _is_local(reader: Mapping[str, Any], *paths: str) -> bool:
    """Whether a data set, metric or loading step reads ``paths`` from the local disk."""
    client = reader.get("backend_args") or reader.get("file_client_args") or {}
    return client.get("backend", "local") in ("local", "disk") and not any(
        "://" in str(path) for path in paths
    )
