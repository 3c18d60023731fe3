"""What jobs would have to do, without doing it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from arch_hf.distributed import Ranks
from arch_hf.embedding.corpus import EmbeddingCost, embedding_cost
from arch_hf.errors import UserError
from arch_hf.evaluate import load_clips, load_encoder, settings_for
from arch_hf.job import Job, by_model


@dataclass(frozen=True)
class CorpusPlan:
    """What a corpus would cost one job, or the error that would stop it; where the model could not be used, `corpus` is None."""

    job: Job
    corpus: str | None
    cost: EmbeddingCost | None = None
    error: UserError | None = None


def plan_jobs(jobs: Sequence[Job], ranks: Ranks) -> Iterator[CorpusPlan]:
    """What the jobs would have to do, without doing it."""
    for its_jobs in by_model(jobs):
        first = its_jobs[0]
        try:
            encoder = load_encoder(first, ranks)
            layers = first.chosen_layers(encoder.n_layers)
        except UserError as error:
            yield CorpusPlan(first, None, error=error)
            continue
        for name in first.corpora:
            try:
                corpus = load_clips(first, name, ranks)
            except UserError as error:
                yield CorpusPlan(first, name, error=error)
                continue
            for job in its_jobs:
                yield CorpusPlan(job, name, embedding_cost(encoder, corpus, settings_for(job, corpus, layers)))
