"""The twelve corpora as tables of their full size, generated: counts, splits and groups as published, no audio.

What is not published (which clip lies in which group) is made up, plausibly and always alike. RAVDESS, AudioMNIST and EMOVO have their real clip ids,
which follow from the corpora's own rules.
"""

from itertools import product

from sklearn.model_selection import train_test_split

from arch_hf.data import get_corpus
from arch_hf.data.spec import ClipTable

# Groups to a split: Freesound recordings, artists, albums, recordings, songs, utterances.
GROUPS = {
    "esc50": 330,
    "us8k": 130,
    "fma_small": 300,
    "magnatagatune": 91,
    "irmas": 1900,
    "medley_solos_db": 70,
    "slurp": 2000,
}
SHARED = {"esc50": 4, "us8k": 5}  # source recordings that occur in two of the official folds


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
        if corpus_name in REAL_NAMES:
            rows += [(split, name, group) for fold, name, group in REAL_NAMES[corpus_name]() if fold == number + 1]
        else:
            rows += [(split, f"{number:02d}-{i:06d}", _group(corpus_name, number, split, i)) for i in range(size)]
    arch_v1 = ARCH_V1[corpus_name](rows) if corpus_name in ARCH_V1 else None
    split, clip_id, group = (list(column) for column in zip(*rows, strict=True))
    return ClipTable(clip_id, split, group, arch_v1)


def _group(corpus_name: str, number: int, split: str, i: int) -> str | None:
    if corpus_name == "vivae":
        return f"S{number + 1:02d}"
    if corpus_name not in GROUPS:
        return None  # fsd50k: the uploaders are not in its ground truth
    position = i % GROUPS[corpus_name]
    if number < 2 and position < SHARED.get(corpus_name, 0):
        return f"shared{position}"
    return f"{split}-{position}"


def _ravdess_names():
    """(fold, clip id, actor), sorted: two statements, twice, in eight emotions of two intensities, of which neutral has one."""
    for emotion, intensity, statement, repetition, actor in product(range(1, 9), (1, 2), (1, 2), (1, 2), range(1, 25)):
        if (emotion, intensity) != (1, 2):
            numbers = (3, 1, emotion, intensity, statement, repetition, actor)
            yield (actor - 1) // 4 + 1, "-".join(f"{number:02d}" for number in numbers), f"{actor:02d}"


AUDIO_MNIST = """12 47 59 15 27 41 4 11 21 31 44 50 | 26 52 60 18 32 42 5 13 22 33 45 51 | 28 56 7 19 35 1 6 16 23 34 46 53 |
    36 57 9 24 37 2 8 17 29 39 48 54 | 43 58 14 25 38 3 10 20 30 40 49 55"""


def _audio_mnist_names():
    folds = {int(speaker): fold for fold, part in enumerate(AUDIO_MNIST.split("|"), 1) for speaker in part.split()}
    clips = product(range(10), range(1, 61), range(50))
    names = ((folds[speaker], f"{digit}_{speaker:02d}_{take}", f"{speaker:02d}") for digit, speaker, take in clips)
    return sorted(names, key=lambda row: row[1])


def _emovo_names():
    sentences = [f"{kind}{i}" for kind, n in (("b", 3), ("d", 2), ("l", 4), ("n", 5)) for i in range(1, n + 1)]
    for emotion, (fold, actor), sentence in product(
        ("dis", "gio", "neu", "pau", "rab", "sor", "tri"), enumerate(("f1", "f2", "f3", "m1", "m2", "m3"), 1), sentences
    ):
        yield fold, f"{emotion}-{actor}-{sentence}", actor


REAL_NAMES = {"ravdess": _ravdess_names, "audio_mnist": _audio_mnist_names, "emovo": _emovo_names}


def _fma_small(rows) -> list[str]:
    order = sorted(range(len(rows)), key=lambda i: rows[i][1])
    train, held_out = train_test_split(order, test_size=0.2, random_state=42)
    test, validation = train_test_split(held_out, test_size=0.5, random_state=42)
    return _names(len(rows), train=train, validation=validation, test=test)


def _ravdess(rows) -> list[str]:
    order = sorted(range(len(rows)), key=lambda i: rows[i][1])
    rest, test = train_test_split(order, test_size=0.2, random_state=42)
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
