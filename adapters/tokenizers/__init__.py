"""Families of released tokenizers whose networks are written here, one file a family."""
