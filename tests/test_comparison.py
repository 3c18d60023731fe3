"""Is A better than B? Two results, two folders, and what cannot be compared."""

import json

import numpy as np
import pytest
from comparison_samples import classified, tagged, write_sample
from scipy.stats import ttest_rel

from arch_hf.cli import main
from arch_hf.errors import UserError
from arch_hf.probing.metrics.scores import score
from arch_hf.results.comparison import compare
from arch_hf.results.folder_comparison import compare_folders


def by_unit(predictions):
    """Accuracy of each unit, mean over seeds."""
    right = (predictions["scores"].argmax(-1) == predictions["target"]).mean(0)
    return np.array([right[predictions["unit"] == unit].mean() for unit in np.unique(predictions["unit"])])


def test_units_of_one_size_give_the_paired_t_test(tmp_path):
    good, bad = classified(0.8, seed=1), classified(0.7, seed=2, seeds=3)
    found = compare(write_sample(tmp_path, good, "good"), write_sample(tmp_path, bad, "bad"))
    head = found.headline
    expected = ttest_rel(by_unit(good), by_unit(bad))
    assert head.metric == "accuracy"
    assert [head.first, head.second] == pytest.approx([by_unit(good).mean(), by_unit(bad).mean()])
    assert head.estimate.p == pytest.approx(expected.pvalue) and head.estimate.df == pytest.approx(11)
    assert head.estimate.ci95 == pytest.approx(tuple(expected.confidence_interval()))
    assert (found.n_clips, found.n_units, found.left_out) == (120, 12, 0)
    reverse = compare(*(tmp_path / name / "esc50.json" for name in ("bad", "good"))).headline.estimate
    assert reverse.value == -head.estimate.value and reverse.p == head.estimate.p
    assert reverse.ci95 == pytest.approx(tuple(-bound for bound in head.estimate.ci95[::-1]))


def test_the_same_result_twice_differs_in_nothing(tmp_path):
    path = write_sample(tmp_path, tagged(1.0))
    found = compare(path, path)
    assert {(d.estimate.value, d.estimate.ci95, d.estimate.p) for d in found.differences} == {(0, (0, 0), 1)}
    assert found.same_encoder and found.verdict == "No difference shown (p = 1.000)."


def test_a_difference_without_spread_is_not_said_to_hold_for_others(tmp_path, capsys):
    sides = [write_sample(tmp_path, classified(1.0, seed=n), f"perfect{n}") for n in range(2)]
    assert main(["compare", *map(str, sides)]) in (0, None)
    said = capsys.readouterr().out
    assert "+0.00 – +0.00" in said and "does not say that it would be so for others" in said
    assert main(["compare", str(sides[0]), str(write_sample(tmp_path, classified(0.7), "other"))]) in (0, None)
    assert "no width" not in capsys.readouterr().out


def test_no_label_in_common_is_refused(tmp_path):
    predictions = tagged(1.0)
    bare = np.flatnonzero(predictions["target"].sum(1) == 0)[:5]
    halves = [np.union1d(bare, np.arange(start, start + 60)) for start in (0, 60)]
    sides = [write_sample(tmp_path, predictions, f"half{n}", keep=keep) for n, keep in enumerate(halves)]
    with pytest.raises(UserError, match="no test clip with a label in common"):
        compare(*sides)


def test_several_labels_a_clip(tmp_path):
    good, bad = tagged(2.0, seed=1), tagged(0.3, seed=2)
    found = compare(write_sample(tmp_path, good, "good"), write_sample(tmp_path, bad, "bad"))
    assert [each.metric for each in found.differences] == ["map_macro", "map_weighted"]
    for side, predictions in (("first", good), ("second", bad)):
        expected = score(predictions["scores"][0], predictions["target"])
        assert [getattr(each, side) for each in found.differences] == pytest.approx(list(expected.values()))
    assert found.headline.estimate.differs and found.verdict.startswith("good is better than bad (p ")


def test_fewer_than_six_units_have_no_verdict(tmp_path, capsys):
    sides = [
        write_sample(tmp_path, classified(share, n_units=5, seed=n), name)
        for n, (name, share) in enumerate((("a", 0.95), ("b", 0.2)))
    ]
    estimate = compare(*sides).headline.estimate
    assert estimate.p is None and estimate.ci95 is None and not estimate.differs
    assert main(["compare", *map(str, sides)]) == 0
    output = capsys.readouterr().out
    assert "No verdict is possible: 5 units" in output and "from 6 on" in output
    assert main(["compare", *(str(path.parent) for path in sides)]) == 0
    output = capsys.readouterr().out
    assert "too few units" in output and "\nNo verdict is possible on esc50 (fewer than 6 units).\n" in output
    assert "No difference" not in output and "The means" not in output  # there is neither a test nor a mean


def test_clips_are_matched_by_id(tmp_path):
    predictions = classified(0.7)
    rows = np.random.default_rng(0).permutation(120)
    whole, shuffled = write_sample(tmp_path, predictions, "a"), write_sample(tmp_path, predictions, "b", keep=rows)
    part = write_sample(tmp_path, predictions, "c", keep=rows[:100])
    assert compare(whole, shuffled).headline.estimate.ci95 == (0, 0)
    found = compare(whole, part)
    assert (found.n_clips, found.left_out, found.headline.estimate.value) == (100, 20, 0)
    assert compare(part, whole).left_out == 20  # whichever of the two lacks them


def test_a_limited_result_is_said_to_be_one(tmp_path, capsys):
    """It has learned from fewer clips, which its encoder must not answer for."""
    whole = write_sample(tmp_path, classified(0.9), "a")
    few = write_sample(tmp_path, classified(0.5), "b", keep=np.arange(0, 120, 2), dataset={"limit": 10})
    assert main(["compare", str(whole), str(few)]) == 0
    assert (
        f"{few}: limited to 10 clips per split; its probe may have learned from other clips than the other's"
        in capsys.readouterr().out
    )
    assert not compare(whole, whole).caveats


def test_different_numbers_of_seeds_are_said(tmp_path, capsys):
    one, three = (
        write_sample(tmp_path / name, classified(0.7, seeds=n), f"us/{name}") for name, n in (("a", 1), ("b", 3))
    )
    assert main(["compare", str(one), str(three)]) == 0
    assert "A is the mean of 1 seed, B of 3: give both as many (--seeds)." in capsys.readouterr().out
    assert compare_folders(one.parent, three.parent)[1] == [
        "esc50 (arch-v1 2.0, last layer): A is the mean of 1 seed, B of 3: give both as many (--seeds)"
    ]
    assert compare(three, three).unlike_seeds is None


def test_what_cannot_be_compared_is_refused(tmp_path):
    predictions = classified(0.7)
    first = write_sample(tmp_path, predictions, "a")
    other = write_sample(tmp_path, predictions, "b", dataset={"fingerprint": "g"})
    with pytest.raises(UserError, match=r"has fingerprint of the dataset f, .* has g"):
        compare(first, other)
    other = write_sample(tmp_path, predictions | {"fold": predictions["fold"][::-1].copy()}, "b")
    with pytest.raises(UserError, match="other labels, folds or units"):
        compare(first, other)
    other = write_sample(tmp_path, predictions, "b", protocol={"name": "arch-v1", "version": "1.0"})
    with pytest.raises(UserError, match=r"has protocol arch-v1 2\.0, .* has arch-v1 1\.0"):
        compare(first, other)
    other = write_sample(tmp_path, predictions, "b")
    stored = other.with_suffix(".predictions.safetensors")
    stored.unlink()
    with pytest.raises(UserError, match=r"no esc50\.predictions\.safetensors beside .*--overwrite"):
        compare(first, other)
    stored.write_bytes(b"not tensors at all, sorry")
    with pytest.raises(UserError, match="cannot be read"):
        compare(first, other)
    with pytest.raises(UserError, match="no result at"):
        compare(first, tmp_path / "nothing.json")


# Folders ---------------------------------------------------------------------------------------------------------------

CORPORA = {
    "esc50": "events",
    "us8k": "events",
    "fma_small": "music",
    "medley_solos_db": "music",
    "ravdess": "speech",
    "emovo": "speech",
}


def write_models(folder, gains, **changes):
    """Two models on six corpora, `gains` points of accuracy apart."""
    for number, ((corpus, domain), gain) in enumerate(zip(CORPORA.items(), gains, strict=True)):
        for side, (model, share) in enumerate((("us/a", 0.6 + gain), ("us/b", 0.6))):
            predictions = classified(share, n_units=20, per_unit=30, seed=10 * number + side)
            write_sample(folder, predictions, model, corpus, dataset={"domain": domain}, **changes)
    return folder / "us__a", folder / "us__b"


def test_folders_by_corpus_domain_and_over_all(tmp_path, capsys):
    sides = write_models(tmp_path, (0.3, 0.0, 0.0, 0.03, 0.0, -0.3))
    (found,), notes = compare_folders(*sides)
    assert not notes and found.names == ("us/a", "us/b") and [each.corpus for each in found.corpora] == list(CORPORA)
    estimates = {each.corpus: each.headline.estimate for each in found.corpora}
    p = sorted(estimate.p for estimate in estimates.values())
    holm = {}
    for place, value in enumerate(p):
        holm[value] = max([min(1, (6 - place) * value), *holm.values()])
    assert [each.p_holm for each in found.corpora] == pytest.approx(
        [holm[estimate.p] for estimate in estimates.values()]
    )
    assert [each.better for each in found.corpora][::5] == [0, 1] and found.corpora[1].better is None
    events = found.domains["events"]
    assert events.value == pytest.approx((estimates["esc50"].value + estimates["us8k"].value) / 2)
    assert events.standard_error == pytest.approx(
        np.hypot(*(estimates[key].standard_error for key in ("esc50", "us8k"))) / 2
    )
    values = [estimate.value for estimate in estimates.values()]
    assert found.overall.value == found.elsewhere.value == pytest.approx(np.mean(values)) and found.elsewhere.df == 5
    assert main(["compare", *map(str, sides)]) == 0
    output = capsys.readouterr().out
    last = {line.split()[0]: line.split()[-1] for line in output.splitlines() if line.startswith(tuple(CORPORA))}
    assert (last["esc50"], last["us8k"], last["emovo"]) == ("A", "–", "B")
    assert (
        "A is better on esc50; B is better on emovo" in output
        and "mean of all 6" in output
        and "another corpus" in output
    )


def test_no_result_is_compared_in_the_place_of_a_damaged_one(tmp_path, capsys):
    first, second = write_models(tmp_path, (0.0,) * 6)
    (first / "us8k.json").write_text("{")
    write_sample(tmp_path, classified(0.6, seed=99), "us/a", "us8k", name="us8k.seeds1")
    assert main(["compare", str(first), str(second)]) == 1, "a verdict over all lacks a corpus"
    output, errors = capsys.readouterr()
    assert "mean of all 5" in output and "us8k" not in output and "left out: us8k.json: cannot be read" in errors
    assert "us8k.seeds1.json, which would stand in the place of us8k.json, which is damaged" in errors
    assert "error: 1 file left out as damaged" in errors.splitlines()[-1]


def test_folders_name_what_they_leave_out(tmp_path, capsys):
    first, second = write_models(tmp_path, (0.0,) * 6)
    (second / "us8k.json").unlink()
    (second / "emovo.predictions.safetensors").unlink()
    (first / "notes.json").write_text("[]")
    write_sample(tmp_path, classified(0.6, seed=99), "us/a", "esc50", name="esc50.again")
    assert main(["compare", str(first), str(second)]) == 0
    output, errors = capsys.readouterr()
    assert "mean of all 4" in output
    for part in (
        "left out: notes.json",
        f"us8k (arch-v1 2.0, last layer), which only {first} has",
        "no emovo.predictions",
        "esc50.again.json",
    ):
        assert part in errors


def test_protocols_and_layers_are_tables_of_their_own(tmp_path):
    write_models(tmp_path, (0.0,) * 6)
    write_models(tmp_path, (0.0,) * 6, protocol={"name": "strict", "version": "2.0"}, name="strict")
    write_models(tmp_path, (0.0,) * 6, layer=3, name="layer3")
    tables, notes = compare_folders(tmp_path / "us__a", tmp_path / "us__b")
    assert [(table.title, len(table.corpora)) for table in tables] == [
        ("arch-v1 2.0, last layer", 6),
        ("strict 2.0, last layer", 1),
    ]
    assert notes == ["both also have layers 3: compare their files one by one"]


def test_one_model_a_folder_under_whatever_names(tmp_path):
    predictions = classified(0.6)
    write_sample(tmp_path / "one", predictions, "us/a", "esc50")
    write_sample(tmp_path / "one", predictions, "us/copy", "us8k", facts={"weights_sha256": "weights of us/a"})
    write_sample(tmp_path / "two", predictions, "us/b", "esc50")
    (found,), _ = compare_folders(tmp_path / "one", tmp_path / "two")
    assert len(found.corpora) == 1
    write_sample(tmp_path / "one", predictions, "us/other", "us8k")
    with pytest.raises(
        UserError, match=r"one holds the results of 2 models \(us/copy, us/other\): give the folder of one"
    ):
        compare_folders(tmp_path / "one", tmp_path / "two")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no results in"):
        compare_folders(tmp_path / "empty", tmp_path / "two")


def test_a_file_and_a_folder_are_refused(tmp_path, capsys):
    path = write_sample(tmp_path, classified(0.6))
    assert main(["compare", str(path), str(tmp_path)]) == 1
    assert "give two result files, or two folders" in capsys.readouterr().err


def test_a_folder_that_is_not_there_is_named(tmp_path, capsys):
    path = write_sample(tmp_path, classified(0.6))
    for one, other in ((tmp_path / "A", tmp_path), (tmp_path, tmp_path / "A"), (path, tmp_path / "A")):
        assert main(["compare", str(one), str(other)]) == 1
        assert f"no result or folder of results at {tmp_path / 'A'}" in capsys.readouterr().err


def test_results_of_schema_1_compare(tmp_path):
    """Their predictions are as they are now; a folder of the older program reads."""
    paths = []
    for seed, name in enumerate("ab"):
        path = write_sample(tmp_path, classified(0.6, seed=seed), name)
        old = json.loads(path.read_text())
        old |= {"schema_version": 1, "model": {"id": name}, "published": None}
        path.write_text(json.dumps({key: value for key, value in old.items() if key != "checksum"}))
        paths.append(path)
    assert compare(*paths).n_units == 12
