"""Anybody's own dataset: how it is opened, which columns and splits it has, and what is wrong with it.

a folder, a file, a Hub id ─▶ open ─▶ RawDataset (its own columns) ─▶ recognise ─▶ our columns, or what is wrong
"""
