"""ESC-50: 2,000 five-second recordings of 50 kinds of environmental sound."""

from arch_hf.data.official.raw import read_table
from arch_hf.data.spec import Clip, Corpus, Source

# In the order of the metadata's `target`.
CLASSES = tuple(
    """dog rooster pig cow frog cat hen insects sheep crow rain sea_waves crackling_fire crickets chirping_birds
    water_drops wind pouring_water toilet_flush thunderstorm crying_baby sneezing clapping breathing coughing footsteps
    laughing brushing_teeth snoring drinking_sipping door_wood_knock mouse_click keyboard_typing door_wood_creaks can_opening
    washing_machine vacuum_cleaner clock_alarm clock_tick glass_breaking helicopter chainsaw siren car_horn engine train
    church_bells airplane fireworks hand_saw""".split()
)
COMMIT = (
    "33c8ce9eb2cf0b1c2f8bcf322eb349b6be34dbb6"  # GitHub rebuilds archives, so only the commit is pinned, not a checksum
)


def read(raw):
    columns = ("filename", "fold", "category", "src_file")
    for row in read_table(raw.one("meta/esc50.csv", "esc50.csv"), columns):
        yield Clip(
            path=raw.locate(f"audio/{row.file('filename')}"),
            clip_id=row["filename"].removesuffix(".wav"),
            split=f"fold_{row.choose('fold', '12345')}",
            label=row.choose("category", CLASSES),
            group=row["src_file"],
        )


CORPUS = Corpus(
    name="esc50",
    title="ESC-50",
    domain="events",
    task="single_label",
    classes=CLASSES,
    splits={f"fold_{i}": 400 for i in range(1, 6)},
    max_seconds=5.0,
    licence="cc-by-nc-3.0",
    citation="""@inproceedings{piczak2015esc,
  author = {Piczak, Karol J.},
  title = {{ESC}: Dataset for Environmental Sound Classification},
  booktitle = {Proceedings of the 23rd ACM International Conference on Multimedia},
  year = {2015},
  doi = {10.1145/2733373.2806390}
}""",
    homepage="https://github.com/karolpiczak/ESC-50",
    read=read,
    layout="audio/*.wav and meta/esc50.csv (ESC-50-master)",
    sources=(Source(f"https://github.com/karolpiczak/ESC-50/archive/{COMMIT}.zip", filename="ESC-50.zip"),),
    class_clips=(40,) * 50,
    credits=("LICENSE",),
    table1=(2000, 5.0, 50),
    human_accuracy=0.813,
    freesound_id="group",
    notes=("Four source recordings (131943, 134049, 209698, 234879) occur in two of the official folds.",),
)
