"""What a user says about a dataset, where it cannot be told from its columns."""

from collections.abc import Mapping
from dataclasses import dataclass

from arch_hf.errors import UserError

OFF = "none"  # as a column's name: go without it
SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "devel"),
    "test": ("test", "testing", "eval", "evaluation"),
}


@dataclass(frozen=True)
class ReadingOptions:
    """Names of columns and splits; each is a flag of the main job.

    A name of None is looked for. "none" goes without it, for the columns of folds, groups and ids. `splits` maps "train", "validation" and
    "test" to the dataset's own names: a dict, or as text "train=NAME,test=NAME". `label_separator` parts a text into several labels. `without_labels`
    are classes whose clips are left out, with ";" between.
    """

    config: str | None = None
    audio_column: str | None = None
    label_column: str | None = None
    label_separator: str | None = None
    without_labels: str | None = None
    fold_column: str | None = None
    group_column: str | None = None
    id_column: str | None = None
    splits: Mapping[str, str] | str | None = None

    def __post_init__(self):
        object.__setattr__(self, "splits", parse_splits(self.splits))
        for flag in ("audio_column", "label_column"):
            if getattr(self, flag) == OFF:
                raise UserError(f"--{flag} none: there is no way without it")

    @property
    def named_splits(self) -> dict[str, str]:
        """Our name of a split -> the dataset's own."""
        return parse_splits(self.splits)

    @property
    def labels_left_out(self) -> tuple[str, ...]:
        return tuple(name.strip() for name in (self.without_labels or "").split(";") if name.strip())

    @property
    def names_columns(self) -> bool:
        """Whether the user said anything about columns or splits."""
        return any(value for name, value in vars(self).items() if name != "config")


def parse_splits(splits: Mapping[str, str] | str | None) -> dict[str, str]:
    """{"train": NAME, ...} from itself or from "train=NAME,test=NAME".

    Raises:
        UserError: if there is no train or no test, or one split has two parts to play.

    Examples:
        >>> parse_splits("train=english,test=french")
        {'train': 'english', 'test': 'french'}
    """
    if isinstance(splits, str):
        splits = dict(part.partition("=")[::2] for part in splits.split(","))
    splits = {ours.strip(): name.strip() for ours, name in (splits or {}).items()}
    if splits and (not {"train", "test"} <= set(splits) <= set(SPLIT_NAMES) or not all(splits.values())):
        raise UserError("--splits takes train=NAME,test=NAME and, if there is one, validation=NAME")
    if len(set(splits.values())) < len(splits):
        raise UserError(
            f"--splits {','.join(f'{ours}={name}' for ours, name in splits.items())}: the same clips would train and test"
        )
    return splits
