"""UrbanSound8K: 8,732 excerpts of urban sound, up to 4 s, ten classes."""

from arch_hf.data.official.raw import read_table
from arch_hf.data.spec import Clip, Corpus, Source

# In the order of the metadata's `classID`.
CLASSES = (
    "air_conditioner",
    "car_horn",
    "children_playing",
    "dog_bark",
    "drilling",
    "engine_idling",
    "gun_shot",
    "jackhammer",
    "siren",
    "street_music",
)
FOLDS = (873, 888, 925, 990, 936, 823, 838, 806, 816, 837)


def read(raw):
    columns = ("slice_file_name", "fsID", "fold", "class")
    for row in read_table(raw.one("metadata/UrbanSound8K.csv", "UrbanSound8K.csv"), columns):
        fold = row.choose("fold", [str(i) for i in range(1, 11)])
        yield Clip(
            path=raw.locate(f"fold{fold}/{row.file('slice_file_name')}"),
            clip_id=row["slice_file_name"].removesuffix(".wav"),
            split=f"fold_{fold}",
            label=row.choose("class", CLASSES),
            group=row["fsID"],
        )


CORPUS = Corpus(
    name="us8k",
    title="UrbanSound8K",
    domain="events",
    task="single_label",
    classes=CLASSES,
    splits={f"fold_{i}": n for i, n in enumerate(FOLDS, 1)},
    max_seconds=5.0,
    licence="cc-by-nc-4.0",
    citation="""@inproceedings{salamon2014urbansound,
  author = {Salamon, Justin and Jacoby, Christopher and Bello, Juan Pablo},
  title = {A Dataset and Taxonomy for Urban Sound Research},
  booktitle = {Proceedings of the 22nd ACM International Conference on Multimedia},
  year = {2014}
}""",
    homepage="https://urbansounddataset.weebly.com/urbansound8k.html",
    read=read,
    layout="audio/fold1 ... fold10/*.wav and metadata/UrbanSound8K.csv (UrbanSound8K)",
    sources=(
        Source(
            "https://zenodo.org/records/1203745/files/UrbanSound8K.tar.gz",
            size=6_023_741_708,
            md5="9aa69802bbf37fb986f71ec1483a196e",
        ),
    ),
    class_clips=(1000, 429, 1000, 1000, 1000, 1000, 374, 1000, 929, 1000),
    credits=("FREESOUNDCREDITS.txt",),
    table1=(8732, 3.61, 10),
    freesound_id="group",
    notes=(
        "Five of the 1,297 Freesound recordings occur in more than one of the official folds.",
        "The corpus states CC BY-NC 3.0 in one place and 4.0 in another; the Freesound authors are named in its "
        "FREESOUNDCREDITS.txt.",
        "Sampling rates range from 8 to 192 kHz and samples from 4 to 32 bits; the shortest clip is 0.05 s long.",
    ),
)
