"""The networks: shared parts (conv encoder and decoder, attention, quantizers) and one file a family where it has its own."""
