"""`jobengine completion`: what a shell needs to complete commands and flags."""

from typing import Final

import click
from click.shell_completion import get_completion_class

__all__ = ["completion"]


_HELP: Final = """Print the completion script of a shell.

\b
bash:  jobengine completion bash > ~/.local/share/bash-completion/completions/jobengine
zsh:   jobengine completion zsh > "${fpath[1]}/_jobengine"
fish:  jobengine completion fish > ~/.config/fish/completions/jobengine.fish
"""


@click.command(help=_HELP)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    kind = get_completion_class(shell)
    assert kind is not None
    print(kind(context.find_root().command, {}, "jobengine", "_JOBENGINE_COMPLETE").source())
