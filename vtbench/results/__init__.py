"""Results on disk: one folder a run with run.json, rows.jsonl, scores.jsonl, tokens, features and sample images.

Rows are appended one whole batch at a time; a torn tail is cut on opening; everything else is written atomically; a
lock keeps a second writer out. Never imports torch.
"""
