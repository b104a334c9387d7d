"""Convert released weights: the command `mmquad convert`."""

from mmquad.cli import run_script

if __name__ == "__main__":
    run_script("convert", "tools/model_converters/convert_checkpoint.py")
