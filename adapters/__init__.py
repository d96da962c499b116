"""Part of vtbench: import it as `vtbench.adapters`."""

if not __name__.startswith("vtbench."):
    # Imported under its bare name it would be a second copy of every module, with a registry of its own.
    raise ImportError(
        "import vtbench.adapters, not adapters: the folder stands at the top level but belongs to vtbench"
    )
