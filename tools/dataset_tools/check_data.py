"""Check that a data set is complete: the command `mmquad check-data`."""

from mmquad.cli import run_script

if __name__ == "__main__":
    run_script("check-data", "tools/dataset_tools/check_data.py")
