"""Whether the branch to which results go holds the model that was measured."""

from dataclasses import dataclass, field
from fnmatch import fnmatch

from huggingface_hub import HfApi
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.hf_api import RepoFile

from arch_hf.embedding import AudioEncoder
from arch_hf.errors import UserError
from arch_hf.results.result import ModelFacts

# The files of which an embedding may be made. A shard's index says which file holds what.
DECISIVE = (
    "*.safetensors",
    "*.bin",
    "*.index.json",
    "config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "*.py",
)
WEIGHTS = ("*.safetensors", "*.bin")


@dataclass
class Branch:
    """A commit of a model's repository, the one on which results are about to be put."""

    repo_id: str
    commit: str
    _loaded: str | None = None
    _files: dict[str, dict[str, str] | None] = field(default_factory=dict)

    def why_not(self, model: ModelFacts) -> str | None:
        """Why a result of this model must not stand on the branch's page; None if it is the branch's own, or if the branch has no weights.

        Two commits with the same files are the same model. Where they differ (as .bin and .safetensors of the same weights do), or the
        model was measured in a folder, the branch's weights are loaded and hashed.
        """
        here = self._decisive(self.commit)
        if (
            here is None
            or "config.json" not in here
            or not any(fnmatch(path, name) for path in here for name in WEIGHTS)
        ):
            return None
        if model.revision and here == self._decisive(model.revision):
            return None
        if model.weights_sha256 is None:
            return f"it does not say which weights were measured; {self._name} may hold others"
        try:
            own = self._weights()
        except UserError as error:
            return f"whether {self._name} holds the weights that were measured cannot be seen ({error})"
        if own == model.weights_sha256:
            return None
        measured = f"revision {model.revision[:12]}" if model.revision else f"SHA-256 {model.weights_sha256[:12]}"
        return f"{self._name} holds other weights than those that were measured ({measured}): evaluate what is there, or put the measured ones there first"

    @property
    def _name(self) -> str:
        return f"the main branch of {self.repo_id}"

    def _decisive(self, revision: str) -> dict[str, str] | None:
        """The digests of the decisive files at a revision; None if there is no such revision (any more)."""
        if revision not in self._files:
            try:
                tree = list(HfApi().list_repo_tree(self.repo_id, revision=revision))
                files = [file for file in tree if isinstance(file, RepoFile)]
                chosen = [file for file in files if any(fnmatch(file.path, pattern) for pattern in DECISIVE)]
                self._files[revision] = {file.path: file.lfs.sha256 if file.lfs else file.blob_id for file in chosen}
            except (RepositoryNotFoundError, RevisionNotFoundError):
                self._files[revision] = None
        return self._files[revision]

    def _weights(self) -> str:
        if self._loaded is None:
            self._loaded = AudioEncoder.from_pretrained(self.repo_id, revision=self.commit).weights_sha256
        return self._loaded
