"""Official archives of the twelve corpora: downloaded, read, written as Parquet, validated."""
