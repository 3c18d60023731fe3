"""RAVDESS, the speech part: 1,440 sentences in eight emotions by 24 actors."""

from arch_hf.data.random_split import random_split
from arch_hf.data.spec import Clip, Corpus, Source

# By the emotion's number in the file name, 01 first.
CLASSES = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
ACTORS = tuple(f"{i:02d}" for i in range(1, 25))  # odd numbers are men, even ones women


def read(raw):
    # 03-01: audio only, speech. Then emotion, intensity, statement, repetition and actor.
    pattern = r"03-01-(?P<emotion>0[1-8])-\d\d-\d\d-\d\d-(?P<actor>\d\d)\.wav"
    files = raw.matching(pattern, "03-01-EE-II-SS-RR-AA.wav (the speech files)")
    # The paper's split: random, over the sorted names, speakers on both sides.
    rest, test = random_split(range(len(files)), held_out=0.2)
    train, validation = random_split(rest, held_out=0.2)
    arch_v1 = dict.fromkeys(train, "train") | dict.fromkeys(validation, "validation") | dict.fromkeys(test, "test")
    for i, (path, match) in enumerate(files):
        if match["actor"] not in ACTORS:
            raise raw.wrong(f"holds {path.name}; RAVDESS has the actors 01 to 24")
        fold = (int(match["actor"]) - 1) // 4 + 1  # four actors in order: two men and two women
        label = CLASSES[int(match["emotion"]) - 1]
        yield Clip(path, path.stem, f"fold_{fold}", label, group=match["actor"], arch_v1_split=arch_v1[i])


CORPUS = Corpus(
    name="ravdess",
    title="RAVDESS (speech)",
    domain="speech",
    task="single_label",
    classes=CLASSES,
    splits={f"fold_{i}": 240 for i in range(1, 7)},
    max_seconds=5.0,
    licence="cc-by-nc-sa-4.0",
    citation="""@article{livingstone2018ravdess,
  author = {Livingstone, Steven R. and Russo, Frank A.},
  title = {The {Ryerson} Audio-Visual Database of Emotional Speech and Song ({RAVDESS})},
  journal = {PLoS ONE},
  year = {2018}
}""",
    homepage="https://zenodo.org/records/1188976",
    read=read,
    layout="Actor_01 ... Actor_24/03-01-EE-II-SS-RR-AA.wav",
    sources=(
        Source(
            "https://zenodo.org/records/1188976/files/Audio_Speech_Actors_01-24.zip",
            size=208_468_073,
            md5="bc696df654c87fed845eb13823edef8a",
        ),
    ),
    languages=("en",),
    class_clips=(96, *(192,) * 7),
    table1=(1440, 3.70, 8),
    groups=ACTORS,
    notes=(
        "There is no official split. The folds hold four actors each, in order (1 to 4, 5 to 8, ...): two men and two women.",
        "The paper split at random, which `arch_v1_split` holds: the same speakers are on both sides there.",
    ),
)
