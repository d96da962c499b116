"""Reducers of visual tokens: they have no decoder, so that what can be measured is how many tokens go on, and what is
lost on the way. One family one file; a file's REDUCERS are its cards, each with the rules that fixtures prove."""
