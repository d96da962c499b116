"""The vocabulary of the house: cards, tokens, interfaces, errors. Standard library only: anything may import it."""
