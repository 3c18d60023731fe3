"""Raw archives of the twelve corpora, in small: their own layouts, with the awkward things that real copies hold.

Each builder writes a tree and returns what a right reading of it gives, put down by hand and not by the readers under test.
"""

import functools
import io
import json
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import soundfile
from sklearn.model_selection import train_test_split

from arch_hf.data import get_corpus


def clip(clip_id, split, label, group=None, arch_v1_split=None, arch_v1_label=None):
    return SimpleNamespace(**locals())


@dataclass
class Tree:
    """`top` is the folder that the official archive unpacks to, "" if it is flat; `clips` what it holds, in canonical order."""

    top: str
    clips: list
    excluded: tuple[str, ...] = ()
    files: dict[str, Path] = field(default_factory=dict)  # clip id -> its audio file


@functools.cache
def sound(rate=16000, channels=1, seconds=0.05, container="WAV", subtype="PCM_16", seed=0) -> bytes:
    samples = np.random.default_rng(seed).uniform(-0.5, 0.5, (max(int(rate * seconds), 1), channels))
    out = io.BytesIO()
    soundfile.write(out, samples, rate, format=container, subtype=subtype)
    return out.getvalue()


def mp3(**kwargs) -> bytes:
    return sound(container="MP3", subtype="MPEG_LAYER_III", **kwargs)


def write(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def esc50(root: Path) -> Tree:
    rows = [  # the name says fold 1, the csv fold 2: the csv is right
        ("1-100032-A-0.wav", 2, 0, "dog", "100032"),
        ("1-131943-A-49.wav", 1, 49, "hand_saw", "131943"),
        ("2-131943-B-49.wav", 2, 49, "hand_saw", "131943"),
        ("3-1-A-10.wav", 3, 10, "rain", "1"),
        ("4-2-A-10.wav", 4, 10, "rain", "2"),
        ("5-3-A-0.wav", 5, 0, "dog", "3"),
    ]
    lines = ["filename,fold,target,category,esc10,src_file,take"]
    tree = Tree("ESC-50-master", [])
    for i, (name, fold, target, category, source) in enumerate(rows):
        lines.append(f"{name},{fold},{target},{category},{i % 2 == 0},{source},A")
        tree.files[name[:-4]] = write(root / "ESC-50-master/audio" / name, sound(44100, seed=i))
        tree.clips.append(clip(name[:-4], f"fold_{fold}", category, source))
    write(root / "ESC-50-master/meta/esc50.csv", "\ufeff" + "\r\n".join(lines) + "\r\n")  # as a spreadsheet saves it
    return tree


def us8k(root: Path) -> Tree:
    kinds = [  # rate, channels, subtype: from 8 to 192 kHz, from 4 to 32 bits
        (44100, 2, "PCM_16"),
        (192000, 2, "PCM_24"),
        (8000, 1, "PCM_U8"),
        (11024, 1, "PCM_16"),
        (22050, 1, "IMA_ADPCM"),
        (48000, 2, "FLOAT"),
        (96000, 1, "PCM_32"),
        (44100, 1, "MS_ADPCM"),
        (24000, 2, "PCM_16"),
        (16000, 1, "PCM_16"),
        (11025, 1, "PCM_16"),
    ]
    lines = ["slice_file_name,fsID,start,end,salience,fold,classID,class"]
    tree = Tree("UrbanSound8K", [])
    for i, (rate, channels, subtype) in enumerate(kinds):
        fold, source = i % 10 + 1, 100032 + i // 2
        name = f"{source}-3-0-{i}.wav"
        lines.append(f"{name},{source},0.0,0.317551,1,{fold},3,dog_bark")
        audio = sound(rate, channels, seconds=0.05, subtype=subtype, seed=i)
        tree.files[name[:-4]] = write(root / f"UrbanSound8K/audio/fold{fold}" / name, audio)
        tree.clips.append(clip(name[:-4], f"fold_{fold}", "dog_bark", str(source)))
        write(root / f"UrbanSound8K/audio/fold{fold}/.DS_Store", "x")
    write(root / "UrbanSound8K/metadata/UrbanSound8K.csv", "\n".join(lines) + "\n")
    write(root / "UrbanSound8K/FREESOUNDCREDITS.txt", "thanks")
    return tree


def fsd50k(root: Path) -> Tree:
    dev = [
        ("64760", "Electric_guitar,Guitar,Music", "train"),
        ("16399", "Bark,Dog,Animal", "val"),
        ("9", "Rain", "train"),
    ]
    evaluation = [("37199", "Coin_(dropping)"), ("1277", "Tap,Bathtub_(filling_or_washing)")]
    tree = Tree("", [])
    lines = ["fname,labels,mids,split", *(f'{name},"{labels}","/m/0{name}",{split}' for name, labels, split in dev)]
    write(root / "FSD50K.ground_truth/dev.csv", "\n".join(lines) + "\n")
    lines = ["fname,labels,mids", *(f'{name},"{labels}",/m/0' for name, labels in evaluation)]
    write(root / "FSD50K.ground_truth/eval.csv", "\n".join(lines) + "\n")
    write(root / "FSD50K.ground_truth/vocabulary.csv", "0,Bark,/m/05tny_\n")
    for i, (name, labels, split) in enumerate([*dev, *((name, labels, "test") for name, labels in evaluation)]):
        folder = "FSD50K.eval_audio" if split == "test" else "FSD50K.dev_audio"
        tree.files[name] = write(root / folder / f"{name}.wav", sound(44100, seed=i))
        tree.clips.append(clip(name, {"val": "validation"}.get(split, split), tuple(labels.split(","))))
    return tree


def vivae(root: Path) -> Tree:
    names = ["S01_achievement_low_011", "S01_anger_peak_106", "S02_fear_strong_7", "S02_pain_moderate_99"]
    names += [f"S{i:02d}_surprise_low_03" for i in range(3, 12)]
    tree = Tree("VIVAE", [])
    for i, name in enumerate(names):
        speaker, emotion, *_ = name.split("_")
        tree.files[name] = write(root / f"VIVAE/full_set/{name}.wav", sound(44100, seed=i))
        tree.clips.append(clip(name, f"fold_{int(speaker[1:])}", emotion, speaker))
    write(root / "VIVAE/core_set/S01_pleasure_low_01.wav", sound(44100, seed=99))
    return tree


def fma_small(root: Path) -> Tree:
    rows = [(str(number), "small", split, genre, f"{number // 10}") for number, split, genre in FMA]
    rows.insert(3, ("7", "large", "training", "Rock", "1"))
    rows.insert(5, ("8", "medium", "training", "Jazz", ""))
    top = ["", "album", "artist", "set", "set", "track", "track"]
    below = ["", "comments", "id", "split", "subset", "genre_top", "title"]
    lines = [",".join(top), ",".join(below), "track_id,,,,,,"]
    for number, subset, split, genre, artist in rows:
        title = '"A title, with a comma\nand a line break"' if number == "2" else "Ünïcode"
        lines.append(f"{number},0,{artist},{split},{subset},{genre},{title}")
    write(root / "fma_metadata/tracks.csv", "\n".join(lines) + "\n")
    write(root / "fma_small/checksums", "0  000/000002.mp3\n")
    tree = Tree("", [], excluded=("099134", "108925", "133297"))
    order = sorted(number for number, _, _ in FMA)
    train, rest = train_test_split(order, test_size=0.2, random_state=42)
    _, validation = train_test_split(rest, test_size=0.5, random_state=42)
    for i, (number, split, genre) in enumerate(FMA):
        name = f"{number:06d}"
        audio = mp3(rate=(44100, 48000, 22050)[i % 3], channels=1 + i % 2, seconds=0.1, seed=i)
        if name in tree.excluded:
            audio = b"not audio"
        tree.files[name] = write(root / f"fma_small/{name[:3]}/{name}.mp3", audio)
        paper = "train" if number in train else "validation" if number in validation else "test"
        if name not in tree.excluded:
            tree.clips.append(clip(name, {"training": "train"}.get(split, split), genre, str(number // 10), paper))
    return tree


FMA = [
    (2, "training", "Hip-Hop"),
    (5, "training", "Rock"),
    (10, "validation", "Pop"),
    (140, "test", "Folk"),
    (1482, "training", "Electronic"),
    (98565, "training", "Hip-Hop"),
    (99134, "training", "Electronic"),
    (108925, "validation", "Rock"),
    (133297, "test", "Folk"),
    (155066, "training", "International"),
    (141, "test", "Instrumental"),
    (666, "training", "Experimental"),
]


ALBUMS = {
    "2": "american_bach_soloists-j_s__bach_solo_cantatas",
    "291": "john_fleagle-worlds_bliss",
    "1091": "somebody-name",
    "30": "x-y",
}


def magnatagatune(root: Path) -> Tree:
    tags = get_corpus("magnatagatune").classes

    columns = sorted([*tags, *(f"other tag {i}" for i in range(138))])  # the file's order is not that of the 50
    clips = [
        (
            "2",
            "f/american_bach_soloists-j_s__bach_solo_cantatas-01-bwv54__i_aria-30-59.mp3",
            "test",
            ("classical", "violin"),
        ),
        ("290", "5/john_fleagle-worlds_bliss-01-alysoun-204-233.mp3", None, ()),
        ("291", "5/john_fleagle-worlds_bliss-01-alysoun-233-262.mp3", "train", ("no vocals", "vocals")),
        ("1091", "c/somebody-name-01-x-0-29.mp3", "validation", ("guitar",)),
        ("35644", "6/norine_braun-now_and_zen-08-gently-117-146.mp3", "excluded", ("female voice",)),
        ("55753", "8/jacob_heringman-x-19-y-204-233.mp3", "excluded", ()),
        ("30", "b/x-y-01-z-0-29.mp3", "train", ("choral",)),
    ]
    lines = ["\t".join(f'"{name}"' for name in ["clip_id", *columns, "mp3_path"])]
    tree = Tree("", [], excluded=("35644", "55753"))
    for i, (clip_id, path, split, tags) in enumerate(clips):
        values = [
            clip_id,
            *("1" if column in tags or (not tags and column == "other tag 3") else "0" for column in columns),
            path,
        ]
        lines.append("\t".join(f'"{value}"' for value in values))
        write(root / path, b"" if split == "excluded" else mp3(rate=16000, seconds=0.1, seed=i))
        if split not in (None, "excluded"):
            tree.clips.append(clip(clip_id, split, tags, ALBUMS[clip_id]))
            tree.files[clip_id] = root / path
    write(root / "annotations_final.csv", "\n".join(lines) + "\n")
    write(root / "clip_info_final.csv", "clip_id\n")
    return tree


def irmas(root: Path) -> Tree:
    training = [
        ("cel/[cel][cla]0001__1", "0001"),
        ("cel/[cel][cla]0001__2", "0001"),
        ("cla/093__[cla][nod][cla]0222__2", "0222"),
        ("gac/008__[gac][nod][cou_fol]0524__1", "0524"),
        ("gac/[gac][pop_roc]0560__2", "0560"),
        ("voi/[voi][jaz_blu]2482__1", "2482"),
    ]
    testing = [
        ("Part1", "Part1", "01 - Canto das três raças-10", ("gac", "voi")),
        ("Part1", "Part1", "01. The Best - [Speak No Evil]-8", ("pia", "sax")),
        ("Part2", "IRTestingData-Part2", "Debussy, Violin Sonata - 1 Allegro vivo-3", ("vio",)),
        ("Part3", "Part3", "43 - Águas-2", ("voi",)),
    ]
    tree = Tree("", [])
    order = sorted(name for name, _ in training)
    _, held_out = train_test_split(order, test_size=0.2, random_state=42)
    for i, (name, recording) in enumerate(training):
        tree.files[name] = write(root / f"IRMAS-TrainingData/{name}.wav", sound(44100, 2, seed=i))
        paper = "validation" if name in held_out else "train"
        tree.clips.append(clip(name, "train", (name[:3],), recording, paper))
    for part, folder, name, labels in testing:
        # As a Mac writes names: accents apart from their letters.
        base = root / f"IRMAS-TestingData-{part}/{folder}/{unicodedata.normalize('NFD', name)}"
        write(Path(f"{base}.txt"), "".join(f"{label}\t\r\n" for label in labels))
        clip_id = f"{part}/{name}"
        tree.files[clip_id] = write(Path(f"{base}.wav"), sound(44100, 2, seed=len(name)))
        paper = None if part == "Part2" else "test"
        tree.clips.append(clip(clip_id, "test", labels, f"{part}/{name.rpartition('-')[0]}", paper))
    write(root / "IRMAS-TrainingData/README.txt", "")
    return tree


def medley_solos_db(root: Path) -> Tree:
    rows = [
        ("test", "piano", 4, "076", "be1551cf-cf90-5e9c-fc95-f1d31ad1167a"),
        ("training", "violin", 7, "196", "9463a086-2422-51b7-fe11-aff095da1dcf"),
        ("training", "female singer", 2, "159", "a33dcb34-0313-5b3a-fdc0-36aabd326f44"),
        ("validation", "distorted electric guitar", 1, "224", "fc020940-5c2a-5967-fc7a-f0f5786b54f2"),
        ("test", "clarinet", 0, "000", "f6fb4cd7-636f-550b-f52c-47fc6ec2bced"),
    ]
    lines = ["subset,instrument,instrument_id,song_id,uuid4", *(",".join(map(str, row)) for row in rows)]
    write(root / "Medley-solos-DB_metadata.csv", "\n".join(lines) + "\n")
    tree = Tree("", [])
    for i, (subset, instrument, number, song, uuid) in enumerate(rows):
        name = f"Medley-solos-DB_{subset}-{number}_{uuid}.wav"
        tree.files[uuid] = write(root / "Medley-solos-DB" / name, sound(44100, subtype="FLOAT", seed=i))
        tree.clips.append(clip(uuid, {"training": "train"}.get(subset, subset), instrument, song))
    return tree


def ravdess(root: Path) -> Tree:
    names = [f"03-01-0{1 + i % 8}-01-01-01-{actor:02d}" for i, actor in enumerate(range(1, 25))]
    names += ["03-01-08-02-02-02-01", "03-01-05-01-02-01-20"]
    emotions = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
    tree = Tree("", [])
    order = sorted(names)
    rest, test = train_test_split(order, test_size=0.2, random_state=42)
    train, _ = train_test_split(rest, test_size=0.2, random_state=42)
    for i, name in enumerate(names):
        actor = name[-2:]
        audio = sound(48000, channels=2 if actor in ("01", "05", "20") else 1, seed=i)
        tree.files[name] = write(root / f"Actor_{actor}/{name}.wav", audio)
        write(root / f"audio_speech_actors_01-24/Actor_{actor}/{name}.wav", audio)  # some copies hold everything twice
        paper = "test" if name in test else "train" if name in train else "validation"
        fold = (int(actor) + 3) // 4
        tree.clips.append(clip(name, f"fold_{fold}", emotions[int(name[6:8]) - 1], actor, paper))
    write(root / "Actor_01/03-02-01-01-01-01-01.wav", sound(48000, seed=77))  # a song, not speech
    return tree


def audio_mnist(root: Path) -> Tree:
    folds = {"12": 1, "04": 1, "26": 2, "28": 3, "36": 4, "55": 5}  # six of the sixty
    tree = Tree("AudioMNIST", [])
    for speaker, fold in folds.items():
        for digit in (0, 7):
            for repetition in (0, 10, 49):
                name = f"{digit}_{speaker}_{repetition}"
                rate = 8000 if speaker == "26" else 48000
                audio = sound(rate, seed=digit * 1000 + int(speaker) * 50 + repetition)
                tree.files[name] = write(root / f"AudioMNIST/data/{speaker}/{name}.wav", audio)
                tree.clips.append(clip(name, f"fold_{fold}", str(digit), speaker))
    write(root / "AudioMNIST/data/36/notes.txt", "noise")
    write(root / "AudioMNIST/data/audioMNIST_meta.txt", json.dumps({"12": {"age": "30"}, "26": {}}))
    return tree


def slurp(root: Path) -> Tree:
    records = {
        "train": [
            (1, "music", "likeness", "likeness", ["audio-1497886008-headset.flac", "audio-1497886008.flac"]),
            (2, "audio", "volume_up", "audio_volume_up", ["audio--1504193103-headset.flac"]),
            (3, "email", "query", "email_query", ["audio-3.flac"]),
        ],
        "devel": [(4, "email", "query", "email_query", ["audio-1494608400.flac", "audio--1504194195.flac"])],
        "test": [
            (5, "qa", "currency", "qa_currency", ["audio-1497860864-headset.flac"]),
            (6, "music", "likeness", "music_likeness", ["audio-6.flac"]),
        ],
    }
    tree = Tree("", [])
    for name, utterances in records.items():
        lines = []
        for number, scenario, action, intent, files in utterances:
            recordings = [{"file": file, "wer": 0.5, "ent_wer": None, "status": "correct"} for file in files]
            record = {"slurp_id": number, "sentence": "t'so, señor", "intent": intent, "action": action}
            lines.append(json.dumps({**record, "scenario": scenario, "recordings": recordings, "entities": []}))
            for file in files:
                clip_id, split = file[:-5], {"devel": "validation"}.get(name, name)
                audio = sound(16000, container="FLAC", seed=abs(hash(number)) + len(file))
                tree.files[clip_id] = write(root / "audio/slurp_real" / file, audio)
                tree.clips.append(clip(clip_id, split, f"{scenario}_{action}", str(number), None, intent))
        write(root / f"dataset/slurp/{name}.jsonl", "\n".join(lines) + "\n")
    return tree


def emovo(root: Path) -> Tree:
    tree = Tree("EMOVO", [])
    for fold, actor in enumerate(("f1", "f2", "f3", "m1", "m2", "m3"), 1):
        for emotion, sentence in (("dis", "b1"), ("tri", "l4"), ("neu", "n5"), ("rab", "d2")):
            name = f"{emotion}-{actor}-{sentence}"
            tree.files[name] = write(root / f"EMOVO/{actor}/{name}.wav", sound(48000, 2, seed=fold + ord(emotion[0])))
            tree.clips.append(clip(name, f"fold_{fold}", emotion, actor))
    write(root / "EMOVO/documents/EMOVO.pdf", "pdf")
    return tree


BUILDERS = {
    builder.__name__: builder
    for builder in (
        esc50,
        us8k,
        fsd50k,
        vivae,
        fma_small,
        magnatagatune,
        irmas,
        medley_solos_db,
        ravdess,
        audio_mnist,
        slurp,
        emovo,
    )
}


def build(name: str, root: Path) -> Tree:
    """Write the raw tree of a corpus below `root`."""
    tree = BUILDERS[name](root)
    rank = list(get_corpus(name).splits).index
    tree.clips.sort(key=lambda c: (rank(c.split), c.clip_id))
    return tree
