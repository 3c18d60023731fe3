"""`arch-hf check-encoder`: load an encoder, measure it, say whether it can be evaluated."""

from arch_hf.terminal import say


def add_parser(subparsers) -> None:
    parser = subparsers.add_parser(
        "check-encoder",
        help="load an encoder, measure it, say whether it is ready",
        example="arch-hf check-encoder facebook/hubert-base-ls960",
    )
    parser.add_argument("model_id", metavar="ID", help="Hub id or folder of an audio model, or logmel, or mfcc")
    parser.add_argument("--revision", help="commit, branch or tag of a model of the Hub")
    parser.add_argument("--device", help="cpu, cuda, ... (the best there is)")
    parser.add_argument("--trust_remote_code", action="store_true", help="run code that comes with the model")
    parser.set_defaults(run=run)


def run(args) -> int:
    import torch

    from arch_hf.embedding.check import check_encoder

    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    check = check_encoder(args.model_id, args.revision, device, args.trust_remote_code)
    width = max(len(name) for name, _ in check.lines)
    for name, value in check.lines:
        say(f"{name.ljust(width)}  {value}")
    say("ready" if not check.problems else "not ready: " + "; ".join(check.problems))
    return 1 if check.problems else 0
