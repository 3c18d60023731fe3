"""The flags that say what is what in a dataset which is not built in: of more than one command."""

import argparse

FLAGS = {
    "config": "configuration of the dataset",
    "audio_column": "column of the audio",
    "label_column": "column of the label or labels",
    "label_separator": 'what parts several labels in one text, e.g. ","',
    "fold_column": "column of the fold, or none",
    "splits": "which of its splits train and test",
    "group_column": "column of what must not cross train and test (speaker, recording), or none",
    "id_column": "column of the clips' ids, or none",
}


def add_reading_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("a dataset that is not built in", "only where the columns cannot be told apart")
    for name, text in FLAGS.items():
        group.add_argument(f"--{name}", help=text, metavar="train=NAME,test=NAME" if name == "splits" else None)


def reading_arguments(args: argparse.Namespace) -> dict[str, str]:
    """Those that were given, for `load_corpus`."""
    return {name: getattr(args, name) for name in FLAGS if getattr(args, name)}
