"""Suites: lists of datasets with a name, for `--suite NAME`."""

import difflib
from collections.abc import Mapping
from types import MappingProxyType

from arch_hf.data.registry import CORPUS_NAMES, SYNTHETIC_NAMES
from arch_hf.errors import UserError

# The domains are those of the paper's Table 1.
SUITES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "arch": CORPUS_NAMES,
        "events": ("esc50", "us8k", "fsd50k", "vivae"),
        "music": ("fma_small", "magnatagatune", "irmas", "medley_solos_db"),
        "speech": ("ravdess", "audio_mnist", "slurp", "emovo"),
        "synthetic": SYNTHETIC_NAMES,
    }
)


def suite_datasets(name: str) -> tuple[str, ...]:
    """The datasets of a suite.

    Raises:
        UserError: there is no such suite; the message names the nearest.

    Example:
        >>> suite_datasets("speech")
        ('ravdess', 'audio_mnist', 'slurp', 'emovo')
        >>> suite_datasets("speach")
        Traceback (most recent call last):
        arch_hf.errors.UserError: unknown suite 'speach'; did you mean 'speech'? There are arch, events, music, speech, synthetic
    """
    if name in SUITES:
        return SUITES[name]
    near = difflib.get_close_matches(name, SUITES, n=1)
    raise UserError(
        f"unknown suite {name!r}{f'; did you mean {near[0]!r}?' if near else ';'} There are {', '.join(SUITES)}"
    )
