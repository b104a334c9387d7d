"""The raster order: its tables by hand, and that nothing is lost."""

import pytest
import torch

from mmquad.scans import RasterScan

CPU = torch.device("cpu")


@pytest.mark.parametrize(("height", "width"), [(4, 4), (3, 3), (3, 4), (2, 5), (1, 1)])
def test_rows_from_the_top_left(height: int, width: int):
    tables = RasterScan().tables(height, width, CPU)
    expected = [[list(range(height * width))]]
    assert tables.order.tolist() == tables.inverse.tolist() == expected
    x = torch.randn(2, height, width, 3)
    assert torch.equal(RasterScan().to_sequences(x)[:, :, 0], x.flatten(1, 2))
    assert torch.equal(RasterScan().to_grid(RasterScan().to_sequences(x), height, width), x)
