"""The benchmark's scores: the formulas (`scores`), and the same as modules of the evaluate library (`accuracy`, `macro_f1`, `map`)."""
