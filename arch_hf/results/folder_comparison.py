"""Is one model better than another, over all corpora that both have results on? Corpus by corpus, by domain and over all."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from arch_hf.data.registry import CORPUS_NAMES
from arch_hf.errors import UserError
from arch_hf.probing.estimate import LEVEL, Estimate, holm, mean_estimate, over_units
from arch_hf.results.comparison import Comparison, Difference, compare
from arch_hf.results.folder import Filed, LeftOut, encoder_of, layer_name, plain_first, read_results, stands_in_for


@dataclass(frozen=True)
class ComparedCorpus:
    """One corpus of two folders; `p_holm` is the headline's p corrected for the number of corpora, None where no verdict is possible."""

    corpus: str
    domain: str
    comparison: Comparison
    p_holm: float | None

    @property
    def headline(self) -> Difference:
        return self.comparison.headline

    @property
    def better(self) -> int | None:
        """0 or 1, the model that is better after the correction; None where no difference is shown."""
        if self.p_holm is None or self.p_holm >= LEVEL:
            return None
        return 0 if self.headline.estimate.value > 0 else 1


@dataclass(frozen=True)
class ComparedFolders:
    """Two models over their corpora, under one protocol at one layer.

    `domains` and `overall` are means over the corpora, for other speakers, recordings and albums of these very corpora; `elsewhere` takes the
    corpora for the units: what another corpus would give. `domains_holm` are the p of the domains, corrected for their number.
    """

    names: tuple[str, str]
    title: str
    corpora: tuple[ComparedCorpus, ...]
    domains: dict[str, Estimate]
    domains_holm: dict[str, float]
    overall: Estimate
    elsewhere: Estimate
    same_encoder: bool


Question = tuple[str, str, int]  # protocol, its version, layer


def compare_folders(first: str | Path, second: str | Path) -> tuple[list[ComparedFolders], list[str]]:
    """Compare two folders of results, each of one model: a table for every protocol that both have at the last layer (for every
    layer, where neither has the last), and a line for each result that has no counterpart or cannot be compared (a `LeftOut` for a file that is none).

    Raises:
        UserError: a folder holds no results or those of several models, or there is nothing that both have.
    """
    notes: list[str] = []
    sides = [_of_one_model(Path(folder), notes) for folder in (first, second)]
    questions = sorted(sides[0].keys() & sides[1].keys(), key=lambda key: (key[0] != "arch-v1", *key))
    last = [question for question in questions if question[2] == -1]
    if last and len(last) < len(questions):
        layers = sorted({question[2] for question in questions} - {-1})
        notes.append(f"both also have layers {', '.join(map(str, layers))}: compare their files one by one")
    tables = []
    for question in last or questions:
        table = _compare_question(question, sides[0][question], sides[1][question], (str(first), str(second)), notes)
        tables += [table] if table else []
    if not tables:
        reason = f": {'; '.join(notes)}" if notes else ""
        raise UserError(f"{first} and {second} have no results that can be compared{reason}")
    return tables, notes


def _of_one_model(folder: Path, notes: list[str]) -> dict[Question, dict[str, Filed]]:
    """A folder's results, by protocol and layer, then by corpus; one model may stand there under several names."""
    results, skipped = read_results(folder)
    notes += [LeftOut(f"left out: {line}", line.damaged) for line in skipped]
    if not results:
        raise UserError(f"no results in {folder}: give the folder that the main job wrote one model's results to")
    encoders = {encoder_of(filed.result): filed for filed in results}
    if len(encoders) > 1:
        names = ", ".join(dict.fromkeys(filed.result.model.id for filed in encoders.values()))
        example = next(iter(encoders.values())).path.parent
        raise UserError(
            f"{folder} holds the results of {len(encoders)} models ({names}): give the folder of one ({example})"
        )
    damaged = [line.damaged for line in skipped if line.damaged]
    by_question: dict[Question, dict[str, Filed]] = {}
    for filed in sorted(results, key=plain_first):
        if lost := stands_in_for(filed.path, damaged):
            notes.append(f"left out: {filed.path}, which would stand in the place of {lost}, which is damaged")
            continue
        result = filed.result
        question = (result.protocol["name"], str(result.protocol["version"]), result.layer)
        corpora = by_question.setdefault(question, {})
        if result.corpus in corpora:
            notes.append(
                f"left out: {filed.path}, as {corpora[result.corpus].path} is of the same corpus, protocol and layer"
            )
        else:
            corpora[result.corpus] = filed
    return by_question


def _compare_question(
    question: Question, first: dict[str, Filed], second: dict[str, Filed], folders: tuple[str, str], notes: list[str]
) -> ComparedFolders | None:
    title = f"{question[0]} {question[1]}, {layer_name(question[2])}"
    compared: list[tuple[str, str, Comparison]] = []
    for corpus in sorted(first.keys() | second.keys(), key=_place):
        if corpus not in first or corpus not in second:
            notes.append(f"left out: {corpus} ({title}), which only {folders[corpus not in first]} has")
            continue
        try:
            comparison = compare(first[corpus].path, second[corpus].path)
        except UserError as error:
            notes.append(f"left out: {corpus} ({title}): {error}")
            continue
        compared.append((corpus, first[corpus].result.dataset.domain, comparison))
        sides = (first[corpus], second[corpus])
        notes += [
            f"{filed.path}: {filed.result.caveat}; compared on the clips that both have"
            for filed in sides
            if filed.result.caveat
        ]
        notes += [f"{corpus} ({title}): {comparison.unlike_seeds}"] if comparison.unlike_seeds else []
    if not compared:
        return None
    p_holm = holm_where_known([comparison.headline.estimate for *_, comparison in compared])
    estimates: dict[str, list[Estimate]] = {}
    for _, domain, comparison in compared:
        estimates.setdefault(domain, []).append(comparison.headline.estimate)
    domains = {domain: mean_estimate(of_domain) for domain, of_domain in estimates.items()}
    everything = [comparison.headline.estimate for *_, comparison in compared]
    corrected = holm_where_known(list(domains.values()))
    names = compared[0][2].names
    return ComparedFolders(
        names=names if all(comparison.names == names for *_, comparison in compared) else folders,
        title=title,
        corpora=tuple(ComparedCorpus(*parts, p) for parts, p in zip(compared, p_holm, strict=True)),
        domains=domains,
        domains_holm={domain: p for domain, p in zip(domains, corrected, strict=True) if p is not None},
        overall=mean_estimate(everything),
        elsewhere=over_units([estimate.value for estimate in everything]),
        same_encoder=all(comparison.same_encoder for *_, comparison in compared),
    )


def _place(corpus: str) -> tuple[int, str]:
    return (CORPUS_NAMES.index(corpus) if corpus in CORPUS_NAMES else len(CORPUS_NAMES), corpus)


def holm_where_known(estimates: Sequence[Estimate]) -> list[float | None]:
    """The p of each estimate that has one, corrected for their number; None for those that have none.

    Examples:
        >>> holm_where_known([Estimate(0.03, 0.01, 20.0, 21), Estimate(0.03, 0.01, 3.0, 4), Estimate(0.0, 0.0, 20.0, 21)])
        [0.0141..., None, 1.0]
    """
    known = [index for index, estimate in enumerate(estimates) if estimate.p is not None]
    corrected = dict(zip(known, holm([float(estimates[index].p or 0.0) for index in known]), strict=True))
    return [corrected.get(index) for index in range(len(estimates))]
