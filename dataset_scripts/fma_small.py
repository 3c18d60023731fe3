"""FMA small: 8,000 thirty-second excerpts of eight genres from the Free Music Archive."""

from arch_hf.data.official.raw import Row, check_columns, read_rows
from arch_hf.data.random_split import random_split
from arch_hf.data.spec import Clip, Corpus, Source
from arch_hf.errors import UserError

CLASSES = ("Electronic", "Experimental", "Folk", "Hip-Hop", "Instrumental", "International", "Pop", "Rock")
SPLITS = {"training": "train", "validation": "validation", "test": "test"}
COLUMNS = ("track_id", "set,subset", "set,split", "track,genre_top", "artist,id")


def read(raw):
    tracks = sorted(
        _small_tracks(raw.one("fma_metadata/tracks.csv", "tracks.csv")), key=lambda row: row.integer("track_id")
    )
    # The paper's split: random, in the order of the track ids, artists on both sides. Of the second draw the first part is the test set.
    train, rest = random_split(range(len(tracks)), held_out=0.2)
    test, validation = random_split(rest, held_out=0.5)
    arch_v1 = dict.fromkeys(train, "train") | dict.fromkeys(validation, "validation") | dict.fromkeys(test, "test")
    for i, row in enumerate(tracks):
        track = row.integer("track_id")
        yield Clip(
            path=raw.locate(f"{track // 1000:03d}/{track:06d}.mp3"),
            clip_id=f"{track:06d}",
            split=SPLITS[row.choose("set,split", tuple(SPLITS))],
            label=row.choose("track,genre_top", CLASSES),
            group=row["artist,id"] or None,
            arch_v1_split=arch_v1[i],
        )


def _small_tracks(path):
    """tracks.csv has two header lines, the second under the first, and a third that only names the index: track_id."""
    rows = read_rows(path)
    (_, top), (line, below), (_, index) = next(rows, (1, [])), next(rows, (2, [])), next(rows, (3, []))
    names = [index[0] if index else "", *(f"{a},{b}" for a, b in zip(top[1:], below[1:], strict=False))]
    check_columns(path, line, names, COLUMNS)
    positions = [names.index(name) for name in COLUMNS]
    for line, fields in rows:
        if len(fields) != len(names):
            raise UserError(f"{path}:{line}: {len(fields)} fields, where the header has {len(names)}")
        row = Row(f"{path}:{line}", zip(COLUMNS, (fields[i] for i in positions), strict=True))
        if row["set,subset"] == "small":
            yield row


CORPUS = Corpus(
    name="fma_small",
    title="FMA small",
    domain="music",
    task="single_label",
    classes=CLASSES,
    splits={"train": 6400, "validation": 800, "test": 800},
    max_seconds=30.0,
    licence="per-artist",
    citation="""@inproceedings{defferrard2017fma,
  author = {Defferrard, Micha{\\"e}l and Benzi, Kirell and Vandergheynst, Pierre and Bresson, Xavier},
  title = {{FMA}: A Dataset for Music Analysis},
  booktitle = {Proceedings of the 18th International Society for Music Information Retrieval Conference},
  year = {2017}
}""",
    homepage="https://github.com/mdeff/fma",
    read=read,
    layout="fma_small/000 ... 155/*.mp3 and fma_metadata/tracks.csv",
    sources=(
        Source("https://os.unil.cloud.switch.ch/fma/fma_small.zip", sha1="ade154f733639d52e35e32f5593efe5be76c6d70"),
        Source("https://os.unil.cloud.switch.ch/fma/fma_metadata.zip", sha1="f0df49ffe5f2a6008d7dc83c6915b31835dfe733"),
    ),
    rehost="private",
    rehost_reason="each track has its artist's own licence, and not all of them allow it.",
    known_bad=dict.fromkeys(("099134", "108925", "133297"), "cannot be decoded in the official archive"),
    class_clips=(1000,) * 8,
    table1=(8000, 29.98, 8),
    notes=(
        "The official split is disjoint in artists. The paper split at random, which `arch_v1_split` holds.",
        "Tracks 98565, 98567 and 98569 are only 0.5 to 1.6 s long in the official archive.",
        "The metadata are CC BY 4.0.",
    ),
    version="1.1.0",  # 1.0.0 had the paper's test and validation clips exchanged
)
