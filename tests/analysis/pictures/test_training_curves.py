import json

import cv2
import numpy as np
import pytest
from matplotlib.figure import Figure

from mmquad.analysis.pictures.training_curves import draw_training_curves, read_training_log, smooth


def write_run(work_dir, timestamp: str, iterations, vals=(), loss: float = 1.0, tail: str = ""):
    """A run as mmengine logs it: 10 iterations per epoch."""
    folder = work_dir / timestamp / "vis_data"
    folder.mkdir(parents=True)
    records = [
        {"lr": 0.1, "loss": loss / i, "epoch": (i - 1) // 10 + 1, "iter": i, "step": i}
        for i in iterations
    ]
    for step, value in vals:
        record = {"coco/bbox_mAP": value, "coco/segm_mAP": value / 2, "time": 0.1, "step": step}
        records.append(record)
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (folder / "scalars.json").write_text(lines + tail)


def test_one_run(tmp_path):
    write_run(tmp_path, "20250101_000000", range(1, 21), [(1, 0.2), (2, 0.3)])
    log = read_training_log(tmp_path)
    steps, losses = log.series("loss")
    np.testing.assert_array_equal(steps, np.arange(1, 21))
    np.testing.assert_allclose(losses, 1 / np.arange(1, 21))
    steps, metric = log.series("coco/segm_mAP", val=True)
    assert (steps.tolist(), metric.tolist()) == ([1, 2], [0.1, 0.15])
    assert log.metric_names() == ["coco/bbox_mAP", "coco/segm_mAP"]
    assert log.val_step_name == "epoch"


def test_a_resumed_run_continues_the_earlier_one(tmp_path):
    write_run(tmp_path, "20250102_000000", range(11, 31), [(2, 0.5), (3, 0.6)], loss=100)
    write_run(tmp_path, "20250101_000000", range(1, 26), [(1, 0.2), (2, 0.3)])
    log = read_training_log(tmp_path)
    steps, losses = log.series("loss")
    np.testing.assert_array_equal(steps, np.arange(1, 31))
    assert losses[9] == pytest.approx(1 / 10)
    assert losses[10] == pytest.approx(100 / 11)
    assert log.series("coco/bbox_mAP", val=True)[1].tolist() == [0.2, 0.5, 0.6]


def test_a_training_started_over_replaces_a_longer_one(tmp_path):
    write_run(tmp_path, "20250101_000000", range(1, 31), [(1, 0.2), (2, 0.3), (3, 0.4)])
    write_run(tmp_path, "20250102_000000", range(1, 11), [(1, 0.7)], loss=5)
    log = read_training_log(tmp_path)
    assert log.series("loss")[0].tolist() == list(range(1, 11))
    assert log.series("coco/bbox_mAP", val=True)[1].tolist() == [0.7]


def test_latest_only_skips_runs_that_logged_nothing(tmp_path):
    write_run(tmp_path, "20250101_000000", range(1, 6))
    write_run(tmp_path, "20250102_000000", range(6, 9))
    write_run(tmp_path, "20250103_000000", [])
    log = read_training_log(tmp_path, latest_only=True)
    assert log.series("loss")[0].tolist() == [6, 7, 8]


def test_half_a_last_line_is_dropped_but_no_other(tmp_path):
    write_run(tmp_path / "killed", "20250101_000000", [1, 2], tail='{"loss": 0.')
    assert read_training_log(tmp_path / "killed").series("loss")[0].tolist() == [1, 2]
    write_run(tmp_path / "broken", "20250101_000000", [1], tail='oops\n{"step": 1}\n')
    with pytest.raises(ValueError, match=r"scalars.json:2: 'oops'"):
        read_training_log(tmp_path / "broken")


def test_a_folder_without_runs(tmp_path):
    with pytest.raises(FileNotFoundError, match="Is this the work_dir of a training"):
        read_training_log(tmp_path)


def test_iteration_based_validation_is_told_from_epochs(tmp_path):
    folder = tmp_path / "20250101_000000" / "vis_data"
    folder.mkdir(parents=True)
    records = [{"loss": 1.0, "iter": 500, "step": 500}, {"mIoU": 40.0, "step": 500}]
    (folder / "scalars.json").write_text("\n".join(map(json.dumps, records)))
    assert read_training_log(tmp_path).val_step_name == "iteration"


def test_mmengine_writes_what_is_read(tmp_path):
    """The format itself, against mmengine's own writer."""
    visualization = pytest.importorskip("mmengine.visualization")
    backend = visualization.LocalVisBackend(str(tmp_path / "20250101_000000" / "vis_data"))
    backend.add_scalars({"loss": 2.0, "epoch": 1, "iter": 3}, step=3)
    backend.add_scalars({"accuracy/top1": 55.0, "time": 0.1}, step=1)
    log = read_training_log(tmp_path)
    assert log.series("loss")[1].tolist() == [2.0]
    assert log.series("accuracy/top1", val=True)[1].tolist() == [55.0]


def test_smooth_is_a_centred_mean():
    values = np.arange(20.0) ** 2
    expected = [values[max(i - 2, 0) : i + 3].mean() for i in range(20)]
    np.testing.assert_allclose(smooth(values, 5), expected)
    np.testing.assert_allclose(smooth(values, 1), values)


def test_the_picture_shows_the_metrics(tmp_path):
    write_run(tmp_path, "20250101_000000", range(1, 31), [(1, 0.2), (2, 0.3), (3, 0.1)])
    log = read_training_log(tmp_path)
    both = cv2.imread(str(draw_training_curves(log, tmp_path / "new" / "both.png", title="run")))
    loss = cv2.imread(str(draw_training_curves(log, tmp_path / "loss.png", metrics=())))
    assert both.shape[1] == 2 * loss.shape[1]
    panel = both[:, loss.shape[1] :].reshape(-1, 3)
    blue, orange = (np.array(bgr) for bgr in ((180, 119, 31), (14, 127, 255)))
    for color in (blue, orange):
        assert np.sum(np.all(panel == color, axis=1)) > 100


def test_the_same_log_gives_the_same_picture(tmp_path):
    write_run(tmp_path, "20250101_000000", range(1, 5), [(1, 0.2)])
    log = read_training_log(tmp_path)
    one, two = (draw_training_curves(log, tmp_path / f"{name}.png") for name in "ab")
    assert one.read_bytes() == two.read_bytes()


def test_missing_keys_name_the_available_ones(tmp_path):
    write_run(tmp_path, "20250101_000000", [1, 2], [(1, 0.2)])
    log = read_training_log(tmp_path)
    with pytest.raises(ValueError, match=r"validation log, .*bbox_mAP.*, got \['mIoU'\]"):
        draw_training_curves(log, tmp_path / "x.png", metrics=["mIoU"])
    with pytest.raises(ValueError, match=r"training log, .*'loss'.*, got \['loss_rpn'\]"):
        draw_training_curves(log, tmp_path / "x.png", losses=["loss_rpn"])
    assert not (tmp_path / "x.png").exists()


def test_the_legend_has_three_digits(tmp_path, monkeypatch):
    write_run(tmp_path, "20250101_000000", range(1, 5), [(1, 0.6)])
    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    draw_training_curves(read_training_log(tmp_path), tmp_path / "x.png")
    texts = [text.get_text() for text in drawn[0].axes[1].get_legend().get_texts()]
    assert texts == ["coco/bbox_mAP: 0.600", "coco/segm_mAP: 0.300"]
