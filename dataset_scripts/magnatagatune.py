"""MagnaTagATune: 21,108 music clips of 29 s with the 50 most used tags."""

import re

from arch_hf.data.official.raw import read_table
from arch_hf.data.spec import Clip, Corpus, Source

# The 50 tags, most used first; synonyms stay apart.
TAGS = tuple(
    """guitar, classical, slow, techno, strings, drums, electronic, rock, fast, piano, ambient, beat, violin, vocal, synth,
    female, indian, opera, male, singing, vocals, no vocals, harpsichord, loud, quiet, flute, woman, male vocal, no vocal, pop,
    soft, sitar, solo, man, classic, choir, voice, new age, dance, male voice, female vocal, beats, harp, cello, no voice, weird,
    country, metal, female voice, choral""".replace("\n   ", "").split(", ")
)
# By the folder, which is the first character of the path.
SPLIT_OF = dict.fromkeys("0123456789ab", "train") | {"c": "validation"} | dict.fromkeys("def", "test")
ZERO_BYTES = "the mp3 has zero bytes in the official archive"


def read(raw):
    columns = ("clip_id", *TAGS, "mp3_path")
    for row in read_table(raw.one("annotations_final.csv"), columns, delimiter="\t"):
        tags = tuple(tag for tag in TAGS if row.choose(tag, "01") == "1")
        if not tags and row["clip_id"] not in CORPUS.known_bad:
            continue
        path = row.file("mp3_path")
        if path[0] not in SPLIT_OF:
            raise row.fault(f"mp3_path is {path!r}, which is not in one of the folders 0 to f")
        yield Clip(
            path=raw.locate(path),
            clip_id=row["clip_id"],
            split=SPLIT_OF[path[0]],
            label=tags,
            group=_album(path),
        )


def _album(path):
    """Artist and album, from folder/artist-album-track-title-start-end.mp3: "somebody-first_album" of f/somebody-first_album-01-song-0-29.mp3."""
    name = path.rpartition("/")[2]
    match = re.match(r"(.+?)-\d+-.*-\d+-\d+\.mp3$", name)
    return match[1] if match else name.rsplit("-", 2)[0]


CORPUS = Corpus(
    name="magnatagatune",
    title="MagnaTagATune",
    domain="music",
    task="multi_label",
    classes=TAGS,
    splits={"train": 15247, "validation": 1529, "test": 4332},
    max_seconds=30.0,
    licence="unknown",
    citation="""@inproceedings{law2009magnatagatune,
  author = {Law, Edith and West, Kris and Mandel, Michael and Bay, Mert and Downie, J. Stephen},
  title = {Evaluation of Algorithms Using Games: The Case of Music Tagging},
  booktitle = {Proceedings of the 10th International Society for Music Information Retrieval Conference},
  year = {2009}
}""",
    homepage="https://mirg.city.ac.uk/codeapps/the-magnatagatune-dataset",
    read=read,
    layout="0 ... f/*.mp3 and annotations_final.csv",
    sources=tuple(
        Source(f"https://mirg.city.ac.uk/datasets/magnatagatune/{name}")
        for name in ("mp3.zip.001", "mp3.zip.002", "mp3.zip.003", "annotations_final.csv", "clip_info_final.csv")
    ),
    rehost="private",
    rehost_reason="its licence is unclear.",
    known_bad=dict.fromkeys(("35644", "55753", "57881"), ZERO_BYTES),
    table1=(21108, 29.12, 50),
    notes=(
        "The full set has 25,863 clips. Those without any of the 50 tags are left out, as in the paper.",
        "The usual split by folder: 0 to b train, c validation, d e f test. It keeps albums apart, which are the `group`, but not "
        "artists: 45 of the 75 artists in test are also in train, and 61.9 % of the test clips are by one of them.",
    ),
    version="1.1.0",  # 1.0.0 grouped the clips by track
)
