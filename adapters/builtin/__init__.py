"""Tokenizers and one generator that vtbench defines itself: ceilings, codecs, small fits; and what wraps others."""
