"""Labelling millions of files: a table in Parquet, with a row for each picture and each minute of a film."""
