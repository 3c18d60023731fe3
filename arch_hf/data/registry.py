"""Which corpora there are, by name or by file."""

import difflib
import functools
import importlib
import importlib.util
from pathlib import Path

from arch_hf.data.spec import Corpus
from arch_hf.errors import UserError
from arch_hf.files import shipped

# The twelve, in the order of the paper's Table 1.
CORPUS_NAMES = (
    "esc50",
    "us8k",
    "fsd50k",
    "vivae",
    "fma_small",
    "magnatagatune",
    "irmas",
    "medley_solos_db",
    "ravdess",
    "audio_mnist",
    "slurp",
    "emovo",
)
# Made by the package itself, one per domain: enough to try everything without a download.
SYNTHETIC_NAMES = ("synthetic_events", "synthetic_music", "synthetic_speech")


def candidate_folders(name: str, data_dir: str | Path | None) -> list[Path]:
    """Where a dataset of this name is looked for before the Hub: the first of these that is there is it.

    Examples:
        >>> [path.as_posix() for path in candidate_folders("esc50", "sounds")]
        ['sounds/esc50', 'arch/esc50']
    """
    short = name.removeprefix("arch/")
    known = short in CORPUS_NAMES
    below = [] if data_dir is None else [Path(data_dir) / (short if known else name)]
    return [*below, Path("arch") / short if known else Path(name)]


def get_corpus(name: str) -> Corpus:
    """The facts of a corpus: one of the twelve, a synthetic one, or a file `path/to/mycorpus.py` that defines CORPUS.

    Raises:
        UserError: if there is no such corpus; the message names the nearest.

    Examples:
        >>> corpus = get_corpus("esc50")
        >>> corpus.title, len(corpus.classes), sum(corpus.splits.values())
        ('ESC-50', 50, 2000)
        >>> get_corpus("esc-50")
        Traceback (most recent call last):
        arch_hf.errors.UserError: unknown corpus 'esc-50'; did you mean 'esc50'? ...
    """
    if name in CORPUS_NAMES:
        return _built_in(name)
    if name in SYNTHETIC_NAMES:
        return importlib.import_module("arch_hf.data.synthetic").CORPORA[name]
    if name.endswith(".py"):
        return _corpus_from_file(Path(name))
    raise UserError(unknown_corpus(name))


@functools.cache
def _built_in(name: str) -> Corpus:
    return _corpus_from_file(shipped("dataset_scripts") / f"{name}.py")


def unknown_corpus(name: str) -> str:
    known = CORPUS_NAMES + SYNTHETIC_NAMES
    nearest = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ";"
    return f"unknown corpus {name!r}{hint} There are {', '.join(known)}, any Hub dataset as user/name, and any dataset folder"


def _corpus_from_file(path: Path) -> Corpus:
    if not path.is_file():
        raise UserError(f"no such corpus file: {path}")
    spec = importlib.util.spec_from_file_location(f"arch_hf_corpus_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UserError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    corpus = getattr(module, "CORPUS", None)
    if not isinstance(corpus, Corpus):
        raise UserError(f"{path} defines no CORPUS = Corpus(...); dataset_scripts/ of the package shows how one looks")
    return corpus
