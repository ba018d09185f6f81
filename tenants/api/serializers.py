"""The base of what requests are read with: a name that is not known is refused, not ignored."""

from collections.abc import Mapping
from typing import Any

from rest_framework import serializers


class StrictSerializer(serializers.Serializer[Any]):
    """Reads a request's body or query: a field that is not there, or not writable, is an error that names it."""

    def get_fields(self) -> dict[str, Any]:
        fields = super().get_fields()
        for field in fields.values():
            _say_what_is_expected(getattr(field, "child", field))
        return fields

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping):
            known = [name for name, field in self.fields.items() if not field.read_only]
            unknown = [name for name in data if name not in known]
            if unknown:
                expected = ", ".join(known) or "none"
                raise serializers.ValidationError(
                    {name: [f"There is no such field here; expected some of: {expected}."] for name in unknown}
                )
        return super().to_internal_value(data)


def _say_what_is_expected(field: Any) -> None:
    """Where Django REST framework says only that a value is wrong."""
    match field:
        case serializers.ChoiceField():
            choices = ", ".join(str(choice) for choice in field.choices)
            field.error_messages["invalid_choice"] = f"Expected one of {choices}; got {{input!r}}."
        case serializers.BooleanField():
            field.error_messages["invalid"] = "Expected true or false."
        case serializers.IntegerField() if field.min_value is not None and field.max_value is not None:
            message = f"Expected a whole number from {field.min_value} to {field.max_value}."
            field.error_messages.update(invalid=message, max_string_length=message)
            validators: list[Any] = list(field.validators)
            for validator in validators:
                validator.message = message


class PageQuery(StrictSerializer):
    """The query of a list; a list with filters adds them in a subclass."""

    limit = serializers.IntegerField(
        required=False, min_value=1, max_value=200, help_text="how many rows a page has at most (default 50)"
    )
    cursor = serializers.CharField(required=False, help_text="the place in the list that `next` or `previous` names")


class PlainDecimalField(serializers.DecimalField):
    """A decimal number as a string, without an exponent and without zeros that say nothing."""

    def __init__(self, **options: Any) -> None:
        super().__init__(max_digits=None, decimal_places=None, **options)

    def to_representation(self, value: Any) -> str:
        text = f"{value:f}"
        return text.rstrip("0").rstrip(".") if "." in text else text


class FieldErrorSerializer(serializers.Serializer[Any]):
    field = serializers.CharField(help_text="where: a field of the body, or a parameter")
    message = serializers.CharField(help_text="what was expected")


class Problem(serializers.Serializer[Any]):
    """A refusal as RFC 9457 describes it."""

    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField(help_text="for people: what was wrong and what is expected")
    errors = FieldErrorSerializer(many=True, required=False)  # type: ignore[assignment]
