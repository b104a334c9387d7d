"""Find the files and folders a config reads, and say which of them are missing.

mmengine opens them one by one after the model is built, so a missing folder shows up minutes
later as a traceback about the first file only.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

from mmquad.checkpoints import CheckpointFileError
from mmquad.checkpoints.files import check_file
from mmquad.errors import SetupError

__all__ = ["DataPath", "check_checkpoints", "check_data", "data_paths", "datasets", "set_data_root"]


@dataclass(frozen=True)
class DataPath:
    """A path a config reads.

    Args:
        path: As the config has it, joined with its ``data_root``.
        is_folder: Whether a folder is expected, which then must not be empty.
        key: Where the config says so, for example ``train_dataloader.dataset.ann_file``.
    """

    path: Path
    is_folder: bool
    key: str

    def missing(self) -> str | None:
        """The reason why this path cannot be used, or None."""
        if not self.path.exists():
            return "missing"
        if self.is_folder != self.path.is_dir():
            return "not a folder" if self.is_folder else "not a file"
        if self.is_folder and next(self.path.iterdir(), None) is None:
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


def data_paths(cfg: Config, splits: tuple[str, ...]) -> list[DataPath]:
    """Local paths read by the dataloaders and evaluators of ``splits``.

    Args:
        cfg: A config of mmdet, mmseg or mmpretrain.
        splits: Of ``train``, ``val`` and ``test``.

    Returns:
        Every path once, in the order of the config; remote paths are left out.
    """
    found: dict[Path, DataPath] = {}
    for split in splits:
        loader = cfg.get(f"{split}_dataloader") or {}
        for key, dataset in datasets(loader.get("dataset"), f"{split}_dataloader.dataset"):
            for data_path in _dataset_paths(dataset, key):
                found.setdefault(data_path.path, data_path)
        evaluators = cfg.get(f"{split}_evaluator") or []
        for evaluator in [evaluators] if isinstance(evaluators, dict) else evaluators:
            ann_file = evaluator.get("ann_file")
            if ann_file and _is_local(ann_file):
                path = Path(ann_file)
                found.setdefault(path, DataPath(path, False, f"{split}_evaluator.ann_file"))
    return list(found.values())


def check_data(cfg: Config, splits: tuple[str, ...]) -> None:
    """Raise if anything ``splits`` read is missing.

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
    raise SetupError(
        f"Data is missing: {len(missing)} of the {len(paths)} paths that this config reads.\n\n"
        f"Expected (relative to {Path.cwd()}):\n{tree}\n\n"
        f"What to do: {hint},\n"
        "or name the folder that holds it: --data-root /path/to/data\n"
        "or set single paths: --cfg-options "
        + " ".join(f"{item.key}=/path/to/{item.path.name}" for item in missing[:2])
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
        evaluators = cfg.get(f"{split}_evaluator") or []
        for evaluator in [evaluators] if isinstance(evaluators, dict) else evaluators:
            ann_file = Path(evaluator.get("ann_file") or "")
            if ann_file.is_relative_to(old_root):
                evaluator["ann_file"] = str(Path(data_root) / ann_file.relative_to(old_root))


def check_checkpoints(cfg: Config, *, initial_weights: bool) -> None:
    """Raise if a local checkpoint that the run will load does not exist, or not in one piece.

    Args:
        cfg: The config.
        initial_weights: Whether ``init_cfg`` of the model and its parts will be used; a test
            takes all weights from ``load_from``.

    Raises:
        SetupError: Naming the config key, the file and what is wrong with it.
    """
    wanted = [("load_from", cfg.get("load_from"))]
    if initial_weights:
        wanted += _initial_checkpoints(cfg.get("model"), "model")
    for key, checkpoint in wanted:
        if not checkpoint or not _is_local(checkpoint):
            continue
        try:
            kind = check_file(Path(checkpoint))
            if key == "load_from" and kind == "safetensors" and not _named_so(checkpoint):
                raise CheckpointFileError(
                    f"{checkpoint} is an intact safetensors file, but mmengine goes by the name: "
                    f"call it {Path(checkpoint).with_suffix('.safetensors').name}."
                )
        except CheckpointFileError as error:
            if not initial_weights:
                raise SetupError(f"The checkpoint to test cannot be used: {error}") from error
            leave_out = "" if key == "load_from" else f", or train without: {key[:-11]}=None"
            raise SetupError(
                f"Checkpoint cannot be used (config key {key}): {error}\n"
                f"What to do: correct it with --cfg-options {key}=/path/to/weights.pth{leave_out}"
            ) from error


def _dataset_paths(dataset: dict, key: str) -> Iterator[DataPath]:
    root = dataset.get("data_root") or ""
    ann_file = dataset.get("ann_file")
    if ann_file and _is_local(root, ann_file):
        yield DataPath(Path(root) / ann_file, False, f"{key}.ann_file")
    prefixes = dataset.get("data_prefix") or {}
    # mmpretrain's ImageNet derives the folder from the split.
    if not prefixes and str(dataset.get("type")).endswith("ImageNet"):
        prefixes = dataset.get("split", "")
    if isinstance(prefixes, str):
        prefixes = {"": prefixes}
    for name, prefix in prefixes.items():
        if (root or prefix) and _is_local(root, prefix):
            suffix = f".data_prefix.{name}" if name else ".data_prefix" if prefix else ".data_root"
            yield DataPath(Path(root) / prefix, True, key + suffix)


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


def _is_local(*paths: str) -> bool:
    return not any("://" in str(path) for path in paths)
