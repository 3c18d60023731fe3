"""Which part of a loaded model is the audio encoder, and how it is called: the one place that knows families apart.

A model is recognised by its structure (what it takes, whether it has a decoder or a quantiser), never by a checkpoint's name.

| structure | encoder | examples |
|---|---|---|
| takes audio, gives hidden states | the model | wav2vec2, HuBERT, WavLM, data2vec, SEW, AST, Wav2Vec2-BERT |
| one of its parts takes audio alone | that part | Whisper, CLAP, SeamlessM4T v2 |
| encoder, quantiser, decoder | the encoder, up to the quantiser | EnCodec, DAC, Mimi |
"""

from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import PreTrainedModel

from arch_hf.errors import UserError

AUDIO_INPUTS = ("input_values", "input_features")


def takes_audio(model: Any) -> bool:
    """Whether a model, or the class of one, takes audio and nothing else."""
    modalities = model.input_modalities
    modalities = (modalities,) if isinstance(modalities, str) else tuple(modalities)
    return model.main_input_name in AUDIO_INPUTS and modalities in (("audio",), ("text",))  # "text" is the default


def is_codec(model: nn.Module) -> bool:
    parts = ("encoder", "quantizer", "decoder")
    return model.main_input_name in AUDIO_INPUTS and all(isinstance(getattr(model, p, None), nn.Module) for p in parts)


def audio_tower(model: nn.Module) -> tuple[nn.Module, str]:
    """The audio encoder inside a loaded model, and the prefix of its weights in the model's.

    Raises:
        UserError: if no part of the model takes audio, or more than one does.

    Examples:
        >>> from transformers import WhisperConfig, WhisperModel
        >>> tiny = dict(d_model=8, encoder_layers=1, decoder_layers=1, encoder_attention_heads=1, vocab_size=99)
        >>> whisper = WhisperModel(WhisperConfig(**tiny, decoder_attention_heads=1, pad_token_id=0))
        >>> tower, prefix = audio_tower(whisper)
        >>> type(tower).__name__, prefix
        ('WhisperEncoder', 'encoder.')
    """
    if is_codec(model):
        return model.get_submodule("encoder"), "encoder."
    if takes_audio(model) and not isinstance(getattr(model, "decoder", None), nn.Module):
        return model, ""
    parts = [
        (name, part)
        for name, part in model.named_children()
        if isinstance(part, PreTrainedModel) and takes_audio(part) and not name.endswith("decoder")
    ]
    if len(parts) != 1:
        names = ", ".join(name for name, _ in parts) or "none"
        raise UserError(
            f"{type(model).__name__} has no audio encoder that can be recognised: it takes {model.main_input_name}, and of its "
            f"parts exactly one should take {' or '.join(AUDIO_INPUTS)} (there are: {names})"
        )
    name, part = parts[0]
    return part, f"{name}."


class AudioTower(nn.Module):
    """The audio encoder of a loaded model, giving all its hidden states in one form: [batch, frames, dim] each, frames over time.

    The last one is the model's final output (`last_hidden_state`, after the final norm where there is one; a codec's
    latents before quantisation). It takes the place of the last recorded hidden state when both have the same frames,
    and follows it otherwise (after an adapter, SEW's upsampling). Where a model cuts its spectrogram into patches (AST, CLAP), those of
    one time and several frequencies are averaged, and tokens that stand for no time are left out. Hidden states of another width than
    the final one (CLAP's early stages) are left out: they do not fit in one array.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.codec = is_codec(model)
        self.config = model.config
        self.encoder, self.prefix = audio_tower(model)
        self.input_name = "input_values" if self.codec else self.encoder.main_input_name
        # CLAP's fusion mixes in random crops of clips longer than its window; here such clips are windowed instead.
        self.fusion = getattr(getattr(self.encoder, "config", None), "enable_fusion", False)
        self.patches = patch_grid(self.encoder.config) if hasattr(self.encoder, "config") else None
        self.frequencies = 1  # of an image of patches, one above the other at one time
        self.final_follows = False  # the final output has other frames than the last hidden state: it is one more

    def learn_layout(self, values: torch.Tensor) -> list[torch.Tensor]:
        """Learn from one clip of a second or more in which form the hidden states come; return them as `forward` does."""
        *states, final = self._states(values, True)
        self.frequencies = final.shape[2] if final.ndim == 4 else 1
        self.final_follows = bool(states) and _positions(states[-1]) != _positions(final)
        return self(values)

    def forward(self, values: torch.Tensor, all_layers: bool = True, **options: torch.Tensor) -> list[torch.Tensor]:
        """Input of shape [batch, ...] to a list of hidden states [batch, frames, dim]; of the final one alone if asked.

        `options` are handed to the model, such as an `attention_mask`.
        """
        *states, final = self._states(values, all_layers, **options)
        if not all_layers:
            return [self._over_time(final)]
        states = [*(states if self.final_follows else states[:-1]), final]
        width = _width(final)
        return [self._over_time(state) for state in states if _width(state) == width]

    def _states(self, values: torch.Tensor, all_layers: bool, **options: torch.Tensor) -> list[torch.Tensor]:
        """The recorded hidden states if asked for, and the final output."""
        if self.codec:
            return self._codec_states(values, all_layers)
        if self.fusion:
            options["is_longer"] = torch.zeros(len(values), 1, dtype=torch.bool, device=values.device)
        output = self.encoder(values, output_hidden_states=all_layers, **options)
        final = getattr(output, "last_hidden_state", None)
        if not torch.is_tensor(final):
            raise UserError(
                f"{type(self.encoder).__name__}.forward returns {_kind(output)} without last_hidden_state: return one of the "
                "outputs of transformers.modeling_outputs"
            )
        return [*(getattr(output, "hidden_states", None) or ()), final]

    def _codec_states(self, values: torch.Tensor, all_layers: bool) -> list[torch.Tensor]:
        """Up to what a codec hands to its quantiser: in chunks, scaled to unit power, where its configuration says so."""
        length = getattr(self.config, "chunk_length", None) or values.shape[-1]
        stride = getattr(self.config, "chunk_stride", None) or length
        options = {"output_hidden_states": all_layers} if isinstance(self.encoder, PreTrainedModel) else {}
        chunks = []
        for start in range(0, values.shape[-1], stride):
            chunk = values[..., start : start + length]
            if getattr(self.config, "normalize", False):
                chunk = chunk / (chunk.mean(1, keepdim=True).square().mean(-1, keepdim=True).sqrt() + 1e-8)
            output = self.encoder(chunk, **options)
            latents = output if torch.is_tensor(output) else output.latents
            chunks.append([*(getattr(output, "hidden_states", None) or ()), latents.transpose(1, 2)])
        return [torch.cat(states, dim=1) for states in zip(*chunks, strict=True)]

    def _over_time(self, state: torch.Tensor) -> torch.Tensor:
        """[batch, frames, dim] from what the model gives: just that, or patches in rows of one frequency behind some tokens (AST), or
        images [batch, dim, height, width] (CLAP's are stripes of its window, one below the other)."""
        if state.ndim == 4:
            return state.unflatten(2, (-1, self.frequencies)).mean(3).flatten(2).transpose(1, 2)
        if self.patches:
            rows, columns = self.patches[:2]
            return state[:, -rows * columns :].unflatten(1, (rows, columns)).mean(1)
        return state


class PatchGrid(NamedTuple):
    """The patches into which a model cuts its spectrogram: how many, their size in frames, and the frames from one to the next."""

    rows: int
    columns: int
    size: int
    stride: int


def patch_grid(config: Any) -> PatchGrid | None:
    """None if the model makes no patches.

    Examples:
        >>> from transformers import ASTConfig, HubertConfig
        >>> patch_grid(ASTConfig()), patch_grid(HubertConfig())
        (PatchGrid(rows=12, columns=101, size=16, stride=10), None)
    """
    if not hasattr(config, "frequency_stride"):
        return None
    size, stride = config.patch_size, config.time_stride
    rows = (config.num_mel_bins - size) // config.frequency_stride + 1
    return PatchGrid(rows, (config.max_length - size) // stride + 1, size, stride)


def _kind(output: object) -> str:
    name = type(output).__name__
    return f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"


def _positions(state: torch.Tensor) -> tuple[int, ...]:
    return tuple(state.shape[1:-1]) if state.ndim == 3 else tuple(state.shape[2:])


def _width(state: torch.Tensor) -> int:
    return state.shape[-1] if state.ndim == 3 else state.shape[1]
