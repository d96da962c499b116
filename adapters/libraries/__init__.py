"""Models that come through somebody's library or interface: diffusers, transformers, an image API."""
