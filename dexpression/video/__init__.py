"""Films: decoding, tracks of faces, calm labels, and what the command `dexpression video` writes."""
