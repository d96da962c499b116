"""The networks: shared parts (conv encoder, decoder, attention, quantizers); one file a family where it has its own."""
