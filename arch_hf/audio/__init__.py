"""Audio in: bytes or a path become mono float32 samples at one rate.

    bytes ─▶ containers, compressed ─▶ decoding (libsndfile) ─▶ mono ─▶ resampling (soxr) ─▶ samples
             where the audio lies, and whether all of it is there

One decoder (libsndfile, through soundfile) and one resampler (soxr at "HQ") serve everything, so that the same file gives the same
samples on every machine. Two resamplers differ by up to 0.013 on noisy clips, which is enough to move a score: the quality is therefore
a constant, not an option, and part of `DECODER`, the name under which embeddings are stored.
"""

from arch_hf.audio.decoding import DECODER, AudioInfo, audio_info, begins_as_audio, decode, load_audio
from arch_hf.audio.encoding import encode_flac, encode_samples, encode_wav
from arch_hf.audio.resampling import resample

__all__ = [
    "DECODER",
    "AudioInfo",
    "audio_info",
    "begins_as_audio",
    "decode",
    "encode_flac",
    "encode_samples",
    "encode_wav",
    "load_audio",
    "resample",
]
