"""Scripts by which shells complete commands and options; a shell reads one once, at its start."""

import argparse
from collections.abc import Mapping

__all__ = ["SHELLS", "completion_script"]

SHELLS = ("bash", "zsh", "fish")


def completion_script(shell: str, parsers: Mapping[str, argparse.ArgumentParser]) -> str:
    """What a shell has to run, as ``eval "$(mmquad --completion bash)"`` does.

    Files are completed where no option is begun. zsh runs bash's through ``bashcompinit``.

    Args:
        shell: One of :data:`SHELLS`.
        parsers: Of the commands, by name.
    """
    options = {
        name: sorted(
            option
            for action in parser._actions
            for option in action.option_strings
            if option.startswith("--")
        )
        for name, parser in parsers.items()
    }
    if shell == "fish":
        names = " ".join(options)
        lines = [f'complete -c mmquad -n __fish_use_subcommand -f -a "{names}"']
        lines += [
            f'complete -c mmquad -n "__fish_seen_subcommand_from {name}" -l {option[2:]}'
            for name, found in options.items()
            for option in found
        ]
        return "\n".join(lines)
    cases = "\n".join(f'    {name}) words="{" ".join(o)}" ;;' for name, o in options.items())
    script = f"""_mmquad() {{
  local words word="${{COMP_WORDS[COMP_CWORD]}}"
  case "${{COMP_WORDS[1]}}" in
{cases}
    *) words="{" ".join(options)} --help --version" ;;
  esac
  if [[ $COMP_CWORD -eq 1 || $word == -* ]]; then
    COMPREPLY=($(compgen -W "$words" -- "$word"))
  else
    COMPREPLY=($(compgen -f -- "$word"))
  fi
}}
complete -o filenames -F _mmquad mmquad"""
    return f"autoload -U +X bashcompinit && bashcompinit\n{script}" if shell == "zsh" else script
