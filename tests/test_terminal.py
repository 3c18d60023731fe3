"""Names from outside do not steer the terminal: neither in messages, nor in tables, nor as a result shows itself."""

import sys

import pytest
from comparison_samples import classified, write_sample

from arch_hf.cli import main
from arch_hf.errors import UserError, UserErrors, run_command
from arch_hf.probing.record import FewShot
from arch_hf.results.result import ExcludedClip, Result
from arch_hf.results.table import remarks, results_table
from arch_hf.terminal import say

ESCAPE = "\x1b[31mred\x1b[0m\x1b]0;title\x07\x1b[2J\u202e"


def is_harmless(text: str) -> bool:
    return not {"\x1b", "\x07", "\u202e"} & set(text) and "\\x1b[31mred" in text


@pytest.mark.parametrize(
    "error", [UserError(f"no clip {ESCAPE}"), UserErrors([f"no clip {ESCAPE}", "no\rway"]), KeyError(ESCAPE)]
)
def test_messages(error, capsys):
    def fail(_args):
        raise error

    assert run_command(fail, None) == 1
    message = capsys.readouterr().err
    assert is_harmless(message) and "\r" not in message


def test_what_is_said(capsys):
    say(f"first {ESCAPE}\nsecond\r", file=sys.stderr)
    output, errors = capsys.readouterr()
    assert not output and is_harmless(errors) and errors.count("\n") == 2 and "second\\x0d" in errors


@pytest.fixture
def hostile(tmp_path):
    excluded = (ExcludedClip(f"{ESCAPE}1\n", f"not audio {ESCAPE}"),)
    dataset = {"excluded_clips": excluded, "config": ESCAPE, "domain": ESCAPE}
    return write_sample(
        tmp_path, classified(0.5), ESCAPE, f"x/{ESCAPE}", name="hostile", dataset=dataset, complete=False
    )


def test_results_in_tables_and_by_themselves(hostile, tmp_path, capsys):
    result = Result.read(hostile)
    shown = [results_table([result]), *remarks(result), repr(result), result._repr_html_()]
    assert all(map(is_harmless, shown)) and not any("\n" in line for line in shown[1:])
    assert result.dataset.excluded_clips[0].clip_id == f"{ESCAPE}1\n"  # the file holds it as it is
    other = write_sample(
        tmp_path, classified(0.6, seed=3), "other", f"x/{ESCAPE}", name="hostile", dataset={"config": ESCAPE}
    )
    assert main(["compare", str(hostile), str(other)]) == 0
    assert main(["compare", str(hostile.parent), str(other.parent)]) == 0
    output, errors = capsys.readouterr()
    assert is_harmless(output) and "\x1b" not in errors


def test_few_shot_scores_stand_in_the_table(tmp_path):
    few = {str(n): FewShot(draws=3, metrics={"accuracy": {"mean": n / 20, "std": 0.02}}) for n in (10, 1)}
    results = [
        Result.read(write_sample(tmp_path, classified(0.5), name, few_shot=shots))
        for name, shots in (("a", few), ("b", {}))
    ]
    heads, _, first, second = results_table(results).splitlines()
    assert "interval 1-shot 10-shot floor" in " ".join(heads.split())
    assert "5.00 ± 2.00  50.00 ± 2.00" in first and second.count("±") == 0
