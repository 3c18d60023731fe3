"""The twelve corpora as tables of their full size, generated: counts, splits and groups as published, no audio.

What is not published (which clip lies in which group) is made up, plausibly and always alike.
"""

from sklearn.model_selection import train_test_split

from arch_hf.data import get_corpus
from arch_hf.data.spec import ClipTable

# Groups to a split: Freesound recordings, artists, tracks, recordings, songs, utterances.
GROUPS = {
    "esc50": 330,
    "us8k": 130,
    "fma_small": 300,
    "magnatagatune": 2000,
    "irmas": 1900,
    "medley_solos_db": 70,
    "slurp": 2000,
}
SHARED = {"esc50": 4, "us8k": 5}  # source recordings that occur in two of the official folds
SPEAKERS = {"vivae": 1, "ravdess": 4, "audio_mnist": 12, "emovo": 1}  # to a fold


def full_size_table(corpus_name: str) -> ClipTable:
    """A corpus's clips in canonical order, without audio or labels.

    Example:
        >>> table = full_size_table("irmas")
        >>> len(table), table.arch_v1_split.count("test"), table.arch_v1_split.count(None)
        (9579, 1573, 1301)
    """
    corpus = get_corpus(corpus_name)
    rows = []
    for number, (split, size) in enumerate(corpus.splits.items()):
        rows += [(split, f"{number:02d}-{i:06d}", _group(corpus_name, number, split, i)) for i in range(size)]
    arch_v1 = ARCH_V1[corpus_name](rows) if corpus_name in ARCH_V1 else None
    split, clip_id, group = (list(column) for column in zip(*rows, strict=True))
    return ClipTable(clip_id, split, group, arch_v1)


def _group(corpus_name: str, number: int, split: str, i: int) -> str | None:
    if corpus_name in SPEAKERS:
        return f"speaker{number * SPEAKERS[corpus_name] + i % SPEAKERS[corpus_name]:02d}"
    if corpus_name not in GROUPS:
        return None  # fsd50k: the uploaders are not in its ground truth
    position = i % GROUPS[corpus_name]
    if number < 2 and position < SHARED.get(corpus_name, 0):
        return f"shared{position}"
    return f"{split}-{position}"


def _fma_small(rows) -> list[str]:
    train, held_out = train_test_split(range(len(rows)), test_size=0.2, random_state=42)
    validation, test = train_test_split(held_out, test_size=0.5, random_state=42)
    return _names(len(rows), train=train, validation=validation, test=test)


def _ravdess(rows) -> list[str]:
    rest, test = train_test_split(range(len(rows)), test_size=0.2, random_state=42)
    train, validation = train_test_split(rest, test_size=0.2, random_state=42)
    return _names(len(rows), train=train, validation=validation, test=test)


def _irmas(rows) -> list[str | None]:
    n_train = sum(split == "train" for split, _, _ in rows)
    train, validation = train_test_split(range(n_train), test_size=0.2, random_state=42)
    part1, part2, part3 = 807, 1301, 766
    test = [*range(n_train, n_train + part1), *range(n_train + part1 + part2, n_train + part1 + part2 + part3)]
    return _names(len(rows), train=train, validation=validation, test=test)


def _names(size: int, **indices) -> list[str | None]:
    names = [None] * size
    for name, members in indices.items():
        for i in members:
            names[i] = name
    return names


ARCH_V1 = {"fma_small": _fma_small, "ravdess": _ravdess, "irmas": _irmas}
