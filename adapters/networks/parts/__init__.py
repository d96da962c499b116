"""What several networks share: convolutions, transformers, quantizers, sampling, archs, reading an arch."""
