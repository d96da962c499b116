"""Families of released generators whose networks are written here, one file a family."""
