"""A long convolution through Fourier transforms: where a kernel has a hundred taps, a fraction of the work."""

import math

import torch
from torch import nn
from torch.nn import functional

_SHORTEST_KERNEL = 64  # 19 taps (data2vec) are faster as they are


class FourierConvolution(nn.Module):
    """A grouped convolution over time that gives what the `Conv1d` in its place gives, up to rounding in fp32.

    Blocks of time overlap by the kernel's length (overlap-save); at each frequency the groups are small matrix products. The
    positional convolution of wav2vec 2.0 and its kin has 128 taps.

    Args:
        conv: a convolution, see `takes`.

    Examples:
        >>> conv = nn.Conv1d(32, 32, kernel_size=128, padding=64, groups=4)
        >>> hidden = torch.randn(2, 32, 300)
        >>> with torch.inference_mode():
        ...     torch.allclose(FourierConvolution(conv)(hidden), conv(hidden), atol=1e-5)
        True
    """

    spectrum: torch.Tensor | None
    long_spectrum: torch.Tensor

    def __init__(self, conv: nn.Conv1d):
        super().__init__()
        self.conv = conv
        kernel, there = conv.kernel_size[0], conv.weight.device.type != "mps"  # no products of complex matrices on that
        self.register_buffer("spectrum", _spectrum(conv, kernel) if there else None, persistent=False)
        self.register_buffer("long_spectrum", _spectrum(conv, 3 * kernel) if there else None, persistent=False)

    @staticmethod
    def takes(module: nn.Module) -> bool:
        """Whether a module is a long convolution with stride 1 that mixes channels and keeps the length."""
        return (
            isinstance(module, nn.Conv1d)
            and module.kernel_size[0] >= _SHORTEST_KERNEL
            and module.padding == (module.kernel_size[0] // 2,)
            and (module.stride, module.dilation) == ((1,), (1,))
            and module.groups < module.in_channels
        )

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Hidden states [batch, channels, frames], of any dtype, to the same but of the convolution's channels."""
        if self.spectrum is None:
            return self.conv(hidden)
        kernel, padding, groups = self.conv.kernel_size[0], int(self.conv.padding[0]), self.conv.groups
        batch, _, frames = hidden.shape
        n_out = frames + 2 * padding - kernel + 1
        if padding + frames <= kernel:  # what goes round the end of the block meets the zeros before the clip
            size, step, of_kernel = kernel, n_out, self.spectrum
        else:
            size, step, of_kernel = 3 * kernel, 2 * kernel + 1, self.long_spectrum
        blocks = math.ceil(n_out / step)
        padded = functional.pad(hidden.float(), (padding, (blocks - 1) * step + size - padding - frames))
        spectrum = torch.fft.rfft(padded.unfold(2, size, step))  # [batch, channels, blocks, frequencies]
        spectrum = spectrum.unflatten(1, (groups, -1)).permute(4, 1, 0, 3, 2)
        n_frequencies = len(spectrum)
        product = spectrum.reshape(n_frequencies * groups, batch * blocks, -1) @ of_kernel
        product = product.view(n_frequencies, groups, batch, blocks, -1).permute(2, 1, 4, 3, 0)
        out = torch.fft.irfft(product, n=size)[..., :step].reshape(batch, -1, blocks * step)[..., :n_out]
        if self.conv.bias is not None:
            out = out + self.conv.bias.float()[:, None]
        return out.to(hidden.dtype)


def _spectrum(conv: nn.Conv1d, size: int) -> torch.Tensor:
    """The kernel's conjugate spectrum for blocks of this size: complex [frequencies * groups, in, out]."""
    spectrum = torch.fft.rfft(conv.weight.float(), n=size).conj()  # [out, in, frequencies]
    spectrum = spectrum.unflatten(0, (conv.groups, -1)).permute(3, 0, 2, 1)
    return spectrum.flatten(0, 1).resolve_conj().contiguous()
