"""Is A better than B? On the same test clips, by the units that were drawn (speakers, recordings), per corpus and over all."""

from arch_hf import evaluate_model
from arch_hf.results.comparison_table import folders_text
from arch_hf.results.folder_comparison import compare_folders

CORPORA = ["synthetic_events", "synthetic_music", "synthetic_speech"]
evaluate_model(["logmel", "mfcc"], CORPORA, protocol="strict")
tables, notes = compare_folders("results/logmel", "results/mfcc")
for table in tables:
    print(folders_text(table))
for note in notes:
    print(note)
