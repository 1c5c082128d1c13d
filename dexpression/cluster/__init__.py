"""Labelling millions of files: a table in Parquet, with one row for each file. What runs it: processes, later Ray."""
