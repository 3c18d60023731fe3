"""Medley-solos-DB: 21,571 three-second solos of eight instruments."""

from arch_hf.data.official.raw import read_table
from arch_hf.data.spec import Clip, Corpus, Source

# In the order of the metadata's `instrument_id`.
CLASSES = (
    "clarinet",
    "distorted electric guitar",
    "female singer",
    "flute",
    "piano",
    "tenor saxophone",
    "trumpet",
    "violin",
)
SPLITS = {"training": "train", "validation": "validation", "test": "test"}
URL = "https://zenodo.org/records/3464194/files/Medley-solos-DB"


def read(raw):
    for row in read_table(raw.one("Medley-solos-DB_metadata.csv"), ("subset", "instrument", "instrument_id", "uuid4")):
        split = SPLITS[row.choose("subset", tuple(SPLITS))]
        name = f"Medley-solos-DB_{row['subset']}-{row.integer('instrument_id')}_{row.file('uuid4')}"
        group = row.get("song_id") or row.get("track_id") or None  # song_id since version 1.2
        yield Clip(raw.locate(f"{name}.wav"), row["uuid4"], split, row.choose("instrument", CLASSES), group=group)


CORPUS = Corpus(
    name="medley_solos_db",
    title="Medley-solos-DB",
    domain="music",
    task="single_label",
    classes=CLASSES,
    splits={"train": 5841, "validation": 3494, "test": 12236},
    max_seconds=3.0,
    licence="cc-by-4.0",
    citation="""@inproceedings{lostanlen2016deep,
  author = {Lostanlen, Vincent and Cella, Carmine-Emanuele},
  title = {Deep Convolutional Networks on the Pitch Spiral for Musical Instrument Recognition},
  booktitle = {Proceedings of the 17th International Society for Music Information Retrieval Conference},
  year = {2016}
}""",
    homepage="https://zenodo.org/records/3464194",
    read=read,
    layout="Medley-solos-DB_{subset}-{instrument_id}_{uuid4}.wav and Medley-solos-DB_metadata.csv",
    sources=(
        Source(f"{URL}.tar.gz", md5="f5facf398793ef5c1f80c013afdf3e5f"),
        Source(f"{URL}_metadata.csv", md5="fda6a589c56785f2195c9227809c521a"),
    ),
    class_clips=(1311, 1854, 1744, 3555, 6032, 477, 627, 5971),
    table1=(21571, 2.97, 8),
    notes=("`group` is the song that a clip was cut from.",),
)
