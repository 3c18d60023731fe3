"""IRMAS: the predominant instruments of 6,705 training excerpts (one label) and 2,874 test excerpts (one to five)."""

import re

from arch_hf.data.official.raw import nfc, read_lines
from arch_hf.data.random_split import random_split
from arch_hf.data.spec import Clip, Corpus, Source
from arch_hf.errors import UserError

CLASSES = ("cel", "cla", "flu", "gac", "gel", "org", "pia", "sax", "tru", "vio", "voi")
URL = "https://zenodo.org/records/1290750/files/IRMAS-"


def read(raw):
    training, testing = [], []
    for file in raw.files:
        folders, name = file.split("/")[:-1], nfc(file.rpartition("/")[2])
        if not name.endswith(".wav"):
            continue
        part = re.search(r"Part([123])", "/".join(folders))
        if part:
            testing.append((f"Part{part[1]}/{name.removesuffix('.wav')}", raw.root / file))
        elif folders and folders[-1] in CLASSES:
            training.append((f"{folders[-1]}/{name.removesuffix('.wav')}", raw.root / file))
    if not training and not testing:
        raise raw.wrong("holds no training or test excerpts")
    training, testing = sorted(dict(reversed(training)).items()), sorted(dict(reversed(testing)).items())
    held_out = set()
    if len(training) > 1:  # the paper validates on a random fifth of the training set
        held_out = set(random_split(range(len(training)), held_out=0.2)[1])
    for i, (clip_id, path) in enumerate(training):
        yield Clip(
            path,
            clip_id,
            "train",
            (clip_id.partition("/")[0],),  # the folder: a name like [cel][cla]0001__1 also holds the genre cla
            group=_recording(clip_id),
            arch_v1_split="validation" if i in held_out else "train",
        )
    for clip_id, path in testing:
        # The paper's program looks for the second part under another name than it has, and so tests on the other two.
        arch_v1 = None if clip_id.startswith("Part2/") else "test"
        yield Clip(path, clip_id, "test", _labels(path), group=re.sub(r"-\d+$", "", clip_id), arch_v1_split=arch_v1)


def _recording(clip_id: str) -> str:
    """The number before the last "__" of a training excerpt: 0524 of 008__[gac][nod][cou_fol]0524__1."""
    match = re.search(r"(\d+)__\d+$", clip_id)
    return match[1] if match else clip_id


def _labels(audio) -> tuple[str, ...]:
    """The labels of a test excerpt: one a line in X.txt beside X.wav, each line ending in a tab."""
    path = audio.with_suffix(".txt")
    if not path.is_file():
        raise UserError(f"{audio} has no labels: {path.name} should lie beside it")
    labels = [(number, line.strip()) for number, line in read_lines(path) if line.strip()]
    for number, label in labels:
        if label not in CLASSES:
            raise UserError(f"{path}:{number}: {label!r} is not one of {', '.join(CLASSES)}")
    if not labels:
        raise UserError(f"{path} holds no label")
    return tuple(label for _, label in labels)


CORPUS = Corpus(
    name="irmas",
    title="IRMAS",
    domain="music",
    task="multi_label",
    classes=CLASSES,
    splits={"train": 6705, "test": 2874},
    max_seconds=5.0,
    licence="cc-by-nc-sa-3.0",
    citation="""@inproceedings{bosch2012irmas,
  author = {Bosch, Juan J. and Janer, Jordi and Fuhrmann, Ferdinand and Herrera, Perfecto},
  title = {A Comparison of Sound Segregation Techniques for Predominant Instrument Recognition in Musical Audio Signals},
  booktitle = {Proceedings of the 13th International Society for Music Information Retrieval Conference},
  year = {2012}
}""",
    homepage="https://zenodo.org/records/1290750",
    read=read,
    layout="IRMAS-TrainingData/{class}/*.wav and IRMAS-TestingData-Part{1,2,3}/ with X.wav and X.txt",
    sources=(
        Source(f"{URL}TrainingData.zip", md5="4fd9f5ed5a18d8e2687e6360b5f60afe"),
        Source(f"{URL}TestingData-Part1.zip", md5="5a2e65520dcedada565dff2050bb2a56"),
        Source(f"{URL}TestingData-Part2.zip", md5="afb0c8ea92f34ee653693106be95c895"),
        Source(f"{URL}TestingData-Part3.zip", md5="9b3fb2d0c89cdc98037121c25bd5b556"),
    ),
    rehost="private",
    rehost_reason="its authors state that the audio can not be redistributed.",
    table1=(8278, 5.73, 11),
    notes=(
        "The paper tests on parts 1 and 3 of the test set only (1,573 excerpts); here all 2,874 are in `test`, and "
        "`arch_v1_split` is null for part 2.",
        "`group` is the recording that an excerpt was cut from.",
    ),
)
