"""Results to push, as the main job writes them."""

import json

from arch_hf.names import as_file_name

MODEL = "arch/tiny-hubert"


def make_result(corpus="esc50", value=0.4321098765432101, *, model=MODEL, protocol="arch-v1", version="1.0", **dataset):
    """A result as the main job writes it; `dataset` overrides fields of its dataset block."""
    multi = corpus in ("fsd50k", "magnatagatune", "irmas")
    score = {"mean": value, "std": 0.01, "ci95": [value - 0.02, value + 0.02]}
    return {
        "schema_version": 1,
        "complete": True,
        "model": {"id": model, "revision": "a" * 40, "weights_sha256": "f" * 64, "class": "HubertModel", "n_parameters": 9},
        "dataset": {
            "id": f"arch/{corpus}" if "/" not in corpus and not corpus.startswith("synthetic") else corpus,
            "config": None, "revision": "c" * 40, "fingerprint": "d" * 64, "domain": "events",
            "task": "multi_label" if multi else "single_label", "n_clips": 2000, "n_clips_expected": 2000, "n_classes": 50,
            "limit": None, "excluded_clips": [], **dataset,
        },
        "protocol": {"name": protocol, "version": version},
        "layer": -1,
        "metrics": {"map_macro": score, "map_weighted": score} if multi else {"accuracy": score, "macro_f1": score},
        "runs": [{"fold": f"fold_{k}" if corpus == "esc50" else "test", "seed": 0} for k in range(1, 6)],
        "baselines": {}, "published": None, "timing": {},
        "environment": {"command": "evaluate.py --model_id arch/tiny-hubert"},
    }  # fmt: skip


def save(folder, *results):
    """Write results where the main job would; returns the paths."""
    paths = []
    for result in results:
        corpus, protocol = result["dataset"]["id"].removeprefix("arch/"), result["protocol"]["name"]
        name = as_file_name(corpus) + ("" if protocol == "arch-v1" else f".{protocol}") + ".json"
        paths.append(folder / as_file_name(result["model"]["id"]) / name)
        paths[-1].parent.mkdir(parents=True, exist_ok=True)
        paths[-1].write_text(json.dumps(result))
    return paths


def raw_esc50(folder, per_fold=4, seconds=0.2):
    """A raw ESC-50 in little: two classes, tones of two pitches in noise."""
    import numpy as np

    from arch_hf.audio import encode_wav

    rows = ["filename,fold,target,category,esc10,src_file,take"]
    noise = np.random.default_rng(0)
    (folder / "audio").mkdir(parents=True)
    (folder / "meta").mkdir()
    for fold in range(1, 6):
        for number in range(per_fold):
            target, name = ((0, "dog"), (1, "rooster"))[number % 2]
            file = f"{fold}-{fold * 100 + number}-A-{target}.wav"
            rows.append(f"{file},{fold},{target},{name},False,{fold * 100 + number},A")
            time = np.arange(round(seconds * 16000)) / 16000
            wave = 0.4 * np.sin(2 * np.pi * (300, 2500)[target] * time) + 0.02 * noise.standard_normal(len(time))
            (folder / "audio" / file).write_bytes(encode_wav(wave.astype(np.float32), 16000))
    (folder / "LICENSE").write_text("Who recorded what.")
    (folder / "meta" / "esc50.csv").write_text("\n".join(rows) + "\n")
    return folder
