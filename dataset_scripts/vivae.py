"""VIVAE: 1,085 non-speech vocalisations of six emotions by eleven speakers."""

from arch_hf.data.spec import Clip, Corpus, Source

CLASSES = ("achievement", "anger", "fear", "pain", "pleasure", "surprise")
SPEAKERS = tuple(f"S{i:02d}" for i in range(1, 12))
CLIPS = (93, 101, 101, 108, 111, 111, 103, 108, 108, 87, 54)  # of each speaker


def read(raw):
    pattern = rf"(?P<speaker>S\d\d)_(?P<emotion>{'|'.join(CLASSES)})_(?P<intensity>[a-z]+)_(?P<item>[^_]+)\.wav"
    for path, match in raw.matching(pattern, "S01_achievement_low_01.wav and the like", without="core_set"):
        if match["speaker"] not in SPEAKERS:
            raise raw.wrong(f"holds {path.name}; VIVAE has the speakers S01 to S11")
        fold = SPEAKERS.index(match["speaker"]) + 1
        yield Clip(path, path.stem, f"fold_{fold}", match["emotion"], group=match["speaker"])


CORPUS = Corpus(
    name="vivae",
    title="VIVAE",
    domain="events",
    task="single_label",
    classes=CLASSES,
    splits={f"fold_{i}": n for i, n in enumerate(CLIPS, 1)},
    max_seconds=5.0,
    licence="unknown",
    citation="""@article{holz2022vivae,
  author = {Holz, Natalie and Larrouy-Maestri, Pauline and Poeppel, David},
  title = {The Variably Intense Vocalizations of Affect and Emotion ({VIVAE}) Corpus Prompts New Perspective on Nonspeech
           Perception},
  journal = {Emotion},
  year = {2022},
  doi = {10.1037/emo0001048}
}""",
    homepage="https://zenodo.org/records/4066235",
    read=read,
    layout="full_set/S{01..11}_{emotion}_{intensity}_{item}.wav (VIVAE)",
    sources=(Source("https://zenodo.org/records/4066235/files/VIVAE.zip"),),
    rehost="private",
    rehost_reason="its licence is not verified.",
    class_clips=(161, 174, 176, 185, 202, 187),
    table1=(1085, 0.90, 6),
    groups=SPEAKERS,
    notes=("Fold k is speaker k. Only the full set is used, not the core set within it.",),
)
