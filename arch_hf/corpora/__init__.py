"""The address under which corpus files written for arch-hf 0.1 import their types; they live in `arch_hf.data.spec`."""
