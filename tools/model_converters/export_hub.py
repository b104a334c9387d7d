"""Write a folder for a model hub: the command `mmquad export-hub`."""

from mmquad.cli import run_script

if __name__ == "__main__":
    run_script("export-hub", "tools/model_converters/export_hub.py")
