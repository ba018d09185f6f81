"""The report of a data set, as the API shows it."""

from typing import Any

from rest_framework import serializers


class BadItemSerializer(serializers.Serializer[Any]):
    """A bad item."""

    name = serializers.CharField(help_text="its path in the zip file, or the file and line of a row: `train.csv:17`")
    problem = serializers.CharField(help_text="what is wrong with it, and what was expected")


class DatasetWarningSerializer(serializers.Serializer[Any]):
    """What does not forbid training and makes its result doubtful."""

    kind = serializers.CharField(help_text="such as `duplicates-across-splits` or `class-imbalance`")
    detail = serializers.CharField(help_text="the same in words and numbers")


class DuplicatesSerializer(serializers.Serializer[Any]):
    """Items that are alike."""

    contents = serializers.IntegerField(help_text="contents that are there more than once")
    items = serializers.IntegerField(required=False, help_text="items that have them")
    examples = serializers.ListField(child=serializers.ListField(child=serializers.CharField()))
    across_splits = serializers.IntegerField(required=False, help_text="how many of them are in both splits")
    across_splits_examples = serializers.ListField(
        required=False,
        child=serializers.ListField(child=serializers.CharField()),
        help_text="of each an item of train and one of validation",
    )


class ReportSerializer(serializers.Serializer[Any]):
    """What the check of an upload found."""

    splits = serializers.DictField(
        child=serializers.DictField(child=serializers.IntegerField()),
        help_text='good items by split and class: {"train": {"cat": 950, "dog": 950}, "validation": {…}}; without '
        "classes where the kind has none",
    )
    counts = serializers.DictField(child=serializers.IntegerField(), help_text="good items by split")
    split = serializers.DictField(help_text="how they were divided: by, validation, seed, column")
    good = serializers.IntegerField(help_text="items that were decoded and are stored")
    bad = serializers.IntegerField(help_text="items that were left out")
    problems = BadItemSerializer(many=True, help_text="the items that were left out, by name; the first hundred")
    problems_left_out = serializers.IntegerField(help_text="how many more there are")
    warnings = DatasetWarningSerializer(many=True)
    reasons = serializers.ListField(
        child=serializers.CharField(), help_text="why the upload cannot be used; empty where it can"
    )
    duplicates = serializers.DictField(
        child=DuplicatesSerializer(),
        help_text="`exact`: the same content; `near`: the same but for size and compression (pictures), case, spaces "
        "and punctuation (texts); `contradicting`: the same content with several labels",
    )
    content = serializers.DictField(
        help_text="what the items are like, as the kind has it: resolutions, seconds, lengths, vocabulary, columns"
    )
