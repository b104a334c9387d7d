"""The command line: ``mmquad COMMAND``, and what the scripts of ``tools/`` run.

A command is a module here with the command's name. Its docstring is the command's help, the first
line of which lists it; ``add_options`` declares its options; ``run`` calls the package. A script of
``tools/`` runs the same module, so no option is declared twice.
"""

from mmquad.cli.main import main, run_script

__all__ = ["main", "run_script"]
