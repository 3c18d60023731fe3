"""`arch-hf completion SHELL`: completion of commands and flags in a shell."""

from arch_hf.errors import UserError
from arch_hf.terminal import say


def add_parser(subparsers) -> None:
    parser = subparsers.add_parser(
        "completion",
        help="print a script that completes commands and flags in your shell",
        description="Print a completion script. bash: into ~/.local/share/bash-completion/completions/arch-hf; zsh: into a file _arch-hf in a folder "
        "of $fpath; tcsh: source it.",
        example="arch-hf completion bash",
    )
    parser.add_argument("shell", choices=["bash", "zsh", "tcsh"])
    parser.set_defaults(run=run)


def run(args) -> None:
    try:
        import shtab
    except ImportError:
        raise UserError('completion needs shtab: pip install "arch-hf[completion]"') from None
    say(shtab.complete(args.root, args.shell))
