"""From a spec to something that gives images: weights, networks, loading, and the systems that are measured."""
