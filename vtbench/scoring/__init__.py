"""From a batch of pictures to rows, and from rows to scores: the one place where metrics are called."""
