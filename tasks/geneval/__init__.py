"""GenEval: prompts, detections, verdicts and scores, as the reference implementation gives them."""
