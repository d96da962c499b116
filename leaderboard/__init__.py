"""Part of vtbench: import it as `vtbench.leaderboard`."""

if not __name__.startswith("vtbench."):
    # Imported under its bare name it would be a second copy of every module, with a registry of its own.
    raise ImportError("import vtbench.leaderboard, not leaderboard: the folder stands at the top level but belongs to vtbench")
