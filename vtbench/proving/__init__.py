"""Proofs about models: the contract of an adapter, honesty of its tokens, parity with upstream."""
