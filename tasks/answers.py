"""What a language model that sees still answers when visual tokens are dropped, against itself with all of them."""

from vtbench.types.task import Task

TASK = Task(
    name="answers",
    title="Answers with fewer visual tokens",
    version=1,
    suites=(),
    view="native",
    metrics=(
        "visual-tokens",
        "visual-tokens-mean-layer",
        "visual-tokens-prefill",
        "visual-tokens-last",
        "duplicates",
        "cache-kept",
        "answer-agreement",
        "answer-kl",
        "answer-score",
        "answer-score-full",
        "answer-retained",
        "answer-f1",
        "answer-unparsed",
        "answer-unparsed-full",
    ),
    off_by_default=True,
    order=61,
)
