"""Results: what one is, its file, Table 2 beside it, one against another, the table on the terminal."""
