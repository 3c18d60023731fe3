"""EMOVO: 588 Italian sentences in seven emotional states by six actors."""

from arch_hf.data.spec import Clip, Corpus

CLASSES = ("dis", "gio", "neu", "pau", "rab", "sor", "tri")  # disgust, joy, neutral, fear, anger, surprise, sadness
ACTORS = ("f1", "f2", "f3", "m1", "m2", "m3")


def read(raw):
    pattern = rf"(?P<emotion>{'|'.join(CLASSES)})-(?P<actor>{'|'.join(ACTORS)})-[bldn]\d\.wav"
    for path, match in raw.matching(pattern, "dis-f1-b1.wav and the like"):
        fold = ACTORS.index(match["actor"]) + 1
        yield Clip(path, path.stem, f"fold_{fold}", match["emotion"], group=match["actor"])


CORPUS = Corpus(
    name="emovo",
    title="EMOVO",
    domain="speech",
    task="single_label",
    classes=CLASSES,
    splits={f"fold_{i}": 98 for i in range(1, 7)},
    max_seconds=5.0,
    licence="unknown",
    citation="""@inproceedings{costantini2014emovo,
  author = {Costantini, Giovanni and Iaderola, Iacopo and Paoloni, Andrea and Todisco, Massimiliano},
  title = {{EMOVO} Corpus: an {Italian} Emotional Speech Database},
  booktitle = {Proceedings of the Ninth International Conference on Language Resources and Evaluation},
  year = {2014}
}""",
    homepage="http://voice.fub.it/activities/corpora/emovo/index.html",
    read=read,
    layout="f1, f2, f3, m1, m2, m3/{emotion}-{actor}-{sentence}.wav (EMOVO)",
    rehost="private",
    rehost_reason="its licence is unclear.",
    languages=("it",),
    class_clips=(84,) * 7,
    table1=(588, 3.12, 7),
    groups=ACTORS,
    notes=("Fold k is actor k, in the order f1 f2 f3 m1 m2 m3. The official host is often down.",),
)
