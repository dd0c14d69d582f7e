"""What the columns of a table are usually called: the same names hold for what is learnt from and what is asked about."""

TEXT_COLUMNS = frozenset(
    [
        "text",
        "sentence",
        "review",
        "content",
        "message",
        "comment",
        "body",
        "tweet",
        "utterance",
        "query",
        "question",
        "document",
        "description",
        "sms",
    ]
)
IMAGE_COLUMNS = frozenset(
    [
        "image",
        "image_path",
        "image_file",
        "image_name",
        "img",
        "img_path",
        "path",
        "filepath",
        "file_path",
        "file",
        "filename",
        "file_name",
    ]
)
PAIR_COLUMNS = (
    ("sentence1", "sentence2"),
    ("text_a", "text_b"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("text", "text_pair"),
    ("query", "passage"),
)
