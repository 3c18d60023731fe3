"""Which column of a dataset is its audio."""

from datasets import Features, LargeList, List, Value

from arch_hf.data.audio_cell import KINDS, kind_of
from arch_hf.data.custom.raw import Findings


def choose_audio(features: Features, flag: str | None, there: str, findings: Findings) -> str | None:
    """The column of the audio; None, and a problem, where it cannot be told."""
    if flag and flag not in features:
        findings.problem(f"--audio_column {flag}: no such column; {there}")
        return None
    kinds = {name: kind_of(name, feature) for name, feature in features.items()}
    if flag:
        text = isinstance(features[flag], Value) and features[flag].dtype in ("string", "large_string")
        kind = kinds[flag] or ("path" if text else None)
        if kind == "list" or isinstance(features[flag], (List, LargeList)):
            findings.problem(
                f"{flag} holds samples and no sampling rate; make it {{array, sampling_rate}} or encoded audio"
            )
        elif kind is None:
            findings.problem(f"--audio_column {flag} holds no audio; {there}")
        return flag if kind and kind != "list" else None
    for kind in KINDS:
        names = [name for name, of_name in kinds.items() if of_name == kind]
        if len(names) == 1:
            return names[0]
        if names:
            findings.problem(f"{there}: more than one audio column, say which with --audio_column")
            return None
    lists = [name for name, kind in kinds.items() if kind == "list"]
    if lists:
        findings.problem(
            f"{lists[0]} holds samples and no sampling rate; make it {{array, sampling_rate}} or encoded audio"
        )
    else:
        findings.problem(f"{there}: no audio column, say which with --audio_column")
    return None
