import subprocess
import sys
from pathlib import Path

import pytest

from mmquad import compat

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "configs/mmseg/quadmamba/upernet_quadmamba-tiny_8xb2-160k_ade20k-512x512.py"


def test_configs_inherit_from_mmseg():
    pytest.importorskip("mmseg")
    compat.apply()
    compat.apply()
    assert compat.load_config(str(CONFIG)).model.type == "EncoderDecoder"


def test_nothing_happens_on_import():
    code = (
        "from mmengine.config.utils import MODULE2PACKAGE as table; before = dict(table);"
        "import mmquad.compat; assert table == before; mmquad.compat.apply();"
        "print(table['mmseg'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() in ("mmseg", "mmsegmentation")
