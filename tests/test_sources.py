"""The download tables of the corpora: addresses, names, sizes and checksums are of the right form."""

import re
from urllib.parse import urlsplit

import pytest

from arch_hf.data import CORPUS_NAMES, get_corpus
from arch_hf.data.official.download import file_name

HOSTS = {  # every host that a corpus may be fetched from; all by https
    "github.com",
    "raw.githubusercontent.com",
    "zenodo.org",
    "os.unil.cloud.switch.ch",
    "mirg.city.ac.uk",
}
# Stated by Zenodo or the corpus's own page: bytes of each file whose size is known.
SIZES = {
    "UrbanSound8K.tar.gz": 6_023_741_708,
    "FSD50K.dev_audio.zip": 2_306_663_327,
    "FSD50K.eval_audio.zip": 3_037_675_767,
    "FSD50K.eval_audio.z01": 3_221_225_472,
    **{f"FSD50K.dev_audio.z0{number}": 3_221_225_472 for number in range(1, 6)},
    "Audio_Speech_Actors_01-24.zip": 208_468_073,
    "slurp_real.tar.gz": 3_918_185_662,
}
NO_CHECKSUM = {"esc50", "vivae", "magnatagatune", "audio_mnist", "slurp"}  # built on request, or none published


@pytest.mark.parametrize("name", CORPUS_NAMES)
def test_sources(name):
    sources = get_corpus(name).sources
    assert bool(sources) == (name != "emovo")  # its host is gone: --raw_dir only
    names = [file_name(source) for source in sources]
    assert len({name.lower() for name in names}) == len(names)
    for source, file in zip(sources, names, strict=True):
        url = urlsplit(source.url)
        assert (url.scheme, url.hostname in HOSTS) == ("https", True), source.url
        assert re.fullmatch(r"[\w.-]+\.(zip|zip\.00\d|z0\d|tar\.gz|csv|jsonl)", file), file
        assert source.size == SIZES.get(file)
        assert source.md5 is None or re.fullmatch(r"[0-9a-f]{32}", source.md5), file
        assert source.sha1 is None or re.fullmatch(r"[0-9a-f]{40}", source.sha1), file
        assert bool(source.md5 or source.sha1) != (name in NO_CHECKSUM), file


def test_every_known_size_is_used_and_no_checksum_twice():
    sources = [source for name in CORPUS_NAMES for source in get_corpus(name).sources]
    assert set(SIZES) <= {file_name(source) for source in sources}
    checksums = [source.md5 or source.sha1 for source in sources if source.md5 or source.sha1]
    assert len(set(checksums)) == len(checksums)
