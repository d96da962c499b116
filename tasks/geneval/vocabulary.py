"""GenEval's words: categories, classes, colours, relations, and how large the reference's set is.

Reference: djghosh13/geneval, commit 16f1681 (Ghosh et al., "GenEval", NeurIPS 2023).
"""

from __future__ import annotations

CATEGORIES = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
"""The tags of prompts; the reference calls them tasks."""
COMPLETE = {"single_object": 80, "two_object": 99, "counting": 80, "colors": 94, "position": 100, "color_attr": 100}
"""Prompts of the reference set (553), four images each."""
IMAGES_PER_PROMPT = 4
RELATIONS = ("left of", "right of", "above", "below")
COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
COCO = (
    *("person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light"),
    *("fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow"),
    *("elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee"),
    *("skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard"),
    *("tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple"),
    *("sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch"),
    *("potted plant", "bed", "dining table", "toilet", "tv", "laptop", "computer mouse", "tv remote"),
    *("computer keyboard", "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock"),
    *("vase", "scissors", "teddy bear", "hair drier", "toothbrush"),
)
"""COCO's 80 classes in their order, under the names that GenEval uses (evaluation/object_names.txt: computer mouse,
tv remote and computer keyboard for COCO's mouse, remote and keyboard)."""
