"""The random split of the paper."""

from collections.abc import Sequence

SEED = 42


def random_split(items: Sequence, held_out: float) -> tuple[list, list]:
    """(the rest, a random fraction `held_out`) of the items, as scikit-learn's train_test_split deals them with seed 42.

    Examples:
        >>> random_split(range(10), held_out=0.2)
        ([5, 0, 7, 2, 9, 4, 3, 6], [8, 1])
    """
    from sklearn.model_selection import train_test_split  # a second to import, and most corpora need none

    rest, out = train_test_split(items, test_size=held_out, random_state=SEED)
    return list(rest), list(out)
