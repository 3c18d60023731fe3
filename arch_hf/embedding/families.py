"""Which part of a loaded model is the audio encoder, and how it is called: the one place that knows families apart.

A model is told by its structure (what it takes, whether it has a decoder or a quantiser), never by a checkpoint's name.

| structure | encoder | examples |
|---|---|---|
| takes audio, gives hidden states | the model | wav2vec2, HuBERT, WavLM, data2vec, SEW, AST, Wav2Vec2-BERT |
| one of its parts takes audio alone | that part | Whisper, CLAP, SeamlessM4T v2 |
| encoder, quantiser, decoder | the encoder, up to the quantiser | EnCodec, DAC, Mimi |
"""

import torch
from torch import nn
from transformers import PreTrainedModel

from arch_hf.errors import UserError

AUDIO_INPUTS = ("input_values", "input_features")

# The families in which a padded clip under an attention mask has the hidden states it has alone, once the group norm of
# the extractor and the convolutions over time are told where the clip ends (`batching`). The tests hold each to 1e-4.
# All others are batched with clips of the same length only: SEW pools frames in pairs, SeamlessM4T's and wav2vec2's
# adapters stride over the end, codecs reflect at it.
MASK_EXACT = (
    "wav2vec2",
    "hubert",
    "wavlm",
    "data2vec-audio",
    "unispeech",
    "unispeech-sat",
    "wav2vec2-conformer",
    "wav2vec2-bert",
)


def takes_audio(model) -> bool:
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

    Example:
        >>> from transformers import WhisperConfig, WhisperModel
        >>> tiny = dict(d_model=8, encoder_layers=1, decoder_layers=1, encoder_attention_heads=1, vocab_size=99)
        >>> whisper = WhisperModel(WhisperConfig(**tiny, decoder_attention_heads=1, pad_token_id=0))
        >>> tower, prefix = audio_tower(whisper)
        >>> type(tower).__name__, prefix
        ('WhisperEncoder', 'encoder.')
    """
    if is_codec(model):
        return model.encoder, "encoder."
    if takes_audio(model) and not isinstance(getattr(model, "decoder", None), nn.Module):
        return model, ""
    parts = [
        (name, part)
        for name, part in model.named_children()
        if isinstance(part, PreTrainedModel) and takes_audio(part) and not name.endswith("decoder")
    ]
    if len(parts) != 1:
        found = ", ".join(name for name, _ in parts) or "none"
        raise UserError(
            f"{type(model).__name__} is no audio encoder that can be told: it takes {model.main_input_name}, and of its "
            f"parts exactly one should take {' or '.join(AUDIO_INPUTS)} (found: {found})"
        )
    name, part = parts[0]
    return part, f"{name}."


class AudioTower(nn.Module):
    """The audio encoder of a loaded model, giving all its hidden states in one form: [batch, frames, dim] each.

    The last one is the model's final output (`last_hidden_state`, after the final norm where there is one; a codec's
    latents before quantisation). It takes the place of the last recorded hidden state when both have the same frames,
    and follows it otherwise (after an adapter, SEW's upsampling, Mimi's downsampling). Hidden states of another width
    than the final one (CLAP's early stages) are left out: they do not fit in one array.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.codec = is_codec(model)
        self.config = model.config
        self.encoder, self.prefix = audio_tower(model)
        self.input_name = "input_values" if self.codec else self.encoder.main_input_name
        self.mask_exact = model.config.model_type in MASK_EXACT and not getattr(model.config, "add_adapter", False)
        # CLAP's fusion mixes in random crops of clips longer than its window; here such clips are windowed instead.
        self.fusion = getattr(getattr(self.encoder, "config", None), "enable_fusion", False)
        self.final_follows = False  # the final output has other frames than the last hidden state: it is one more

    def learn_layout(self, values: torch.Tensor) -> list[torch.Tensor]:
        """Learn from one clip, long enough to tell, whether the final output is one more hidden state; return all."""
        *states, final = self._states(values, None, True)
        self.final_follows = bool(states) and _grid(states[-1]) != _grid(final)
        return self(values)

    def forward(self, values: torch.Tensor, attention_mask=None, all_layers: bool = True) -> list[torch.Tensor]:
        """Input of shape [batch, ...] to a list of hidden states [batch, frames, dim]; of the final one alone if asked."""
        *states, final = self._states(values, attention_mask, all_layers)
        if not all_layers:
            return [_frames_first(final)]
        states = [_frames_first(s) for s in [*(states if self.final_follows else states[:-1]), final]]
        return [state for state in states if state.shape[-1] == states[-1].shape[-1]]

    def _states(self, values, attention_mask, all_layers) -> list[torch.Tensor]:
        if self.codec:
            return self._codec_states(values, all_layers)
        options = {} if attention_mask is None else {"attention_mask": attention_mask}
        if self.fusion:
            options["is_longer"] = torch.zeros(len(values), 1, dtype=torch.bool, device=values.device)
        output = self.encoder(values, output_hidden_states=all_layers, **options)
        return [*(output.hidden_states or ()), output.last_hidden_state]

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


def _grid(state: torch.Tensor) -> tuple[int, ...]:
    return tuple(state.shape[1:-1]) if state.ndim == 3 else tuple(state.shape[2:])


def _frames_first(state: torch.Tensor) -> torch.Tensor:
    """[batch, frames, dim], or an image [batch, dim, height, width] as [batch, height * width, dim]."""
    return state if state.ndim == 3 else state.flatten(2).transpose(1, 2)
