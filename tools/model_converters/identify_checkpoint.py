"""Say which model a file holds: the command `mmquad identify`."""

from mmquad.cli import run_script

if __name__ == "__main__":
    run_script("identify", "tools/model_converters/identify_checkpoint.py")
