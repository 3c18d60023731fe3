"""AudioMNIST: 30,000 spoken English digits by 60 speakers."""

from arch_hf.data.spec import Clip, Corpus, Source

# The official folds: twelve speakers each.
FOLDS = (
    "12 47 59 15 27 41 04 11 21 31 44 50",
    "26 52 60 18 32 42 05 13 22 33 45 51",
    "28 56 07 19 35 01 06 16 23 34 46 53",
    "36 57 09 24 37 02 08 17 29 39 48 54",
    "43 58 14 25 38 03 10 20 30 40 49 55",
)
FOLD_OF = {speaker: f"fold_{i}" for i, speakers in enumerate(FOLDS, 1) for speaker in speakers.split()}


def read(raw):
    for path, match in raw.matching(r"(?P<digit>\d)_(?P<speaker>\d\d)_\d+\.wav", "{digit}_{speaker}_{repetition}.wav"):
        if match["speaker"] not in FOLD_OF:
            raise raw.wrong(f"holds {path.name} of speaker {match['speaker']}; AudioMNIST has speakers 01 to 60")
        yield Clip(path, path.stem, FOLD_OF[match["speaker"]], match["digit"], group=match["speaker"])


CORPUS = Corpus(
    name="audio_mnist",
    title="AudioMNIST",
    domain="speech",
    task="single_label",
    classes=tuple("0123456789"),
    splits={f"fold_{i}": 6000 for i in range(1, 6)},
    max_seconds=5.0,
    licence="mit",
    citation="""@article{becker2024audiomnist,
  author = {Becker, S{\\"o}ren and Vielhaben, Johanna and Ackermann, Marcel and M{\\"u}ller, Klaus-Robert and
            Lapuschkin, Sebastian and Samek, Wojciech},
  title = {{AudioMNIST}: Exploring Explainable Artificial Intelligence for Audio Analysis on a Simple Benchmark},
  journal = {Journal of the Franklin Institute},
  year = {2024}
}""",
    homepage="https://github.com/soerenab/AudioMNIST",
    read=read,
    layout="data/{speaker}/{digit}_{speaker}_{repetition}.wav (AudioMNIST)",
    sources=(
        Source("https://github.com/soerenab/AudioMNIST/archive/refs/heads/master.zip", filename="AudioMNIST.zip"),
    ),
    languages=("en",),
    class_clips=(3000,) * 10,
    credits=("LICENSE",),
    table1=(30000, 0.64, 10),
    groups=tuple(f"{speaker:02d}" for speaker in range(1, 61)),
)
