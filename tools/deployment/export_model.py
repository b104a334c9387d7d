"""Export a model for inference: the command `mmquad export`."""

from mmquad.cli import run_script

if __name__ == "__main__":
    run_script("export", "tools/deployment/export_model.py")
