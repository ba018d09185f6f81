"""What can be trained, over HTTP."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from modelhub.recipes import RECIPES
from tenants.api import openapi
from tenants.api.serializers import StrictSerializer
from tenants.api.views import TenantView


class RecipeParameterSerializer(serializers.Serializer[Any]):
    """A parameter of a recipe, and what it may be."""

    name = serializers.CharField()
    type = serializers.ChoiceField(choices=["integer", "number", "choice", "boolean", "text"])
    help = serializers.CharField()
    default = serializers.JSONField(help_text="what holds where it is left out")
    defaults = serializers.DictField(
        child=serializers.JSONField(), help_text="what holds instead where the parameter `architecture` is the key"
    )
    minimum = serializers.FloatField(allow_null=True, help_text="of a text, its characters")
    maximum = serializers.FloatField(allow_null=True)
    choices = serializers.ListField(child=serializers.CharField(), help_text="of a choice")


class RecipeSerializer(serializers.Serializer[Any]):
    """A task that can be trained."""

    name = serializers.CharField()
    title = serializers.CharField()
    dataset_kind = serializers.CharField(help_text="the kind of data set that it learns from")
    parameters = RecipeParameterSerializer(many=True)


class RecipesView(TenantView):
    """What can be trained."""

    @extend_schema(
        operation_id="list_recipes",
        tags=["Training"],
        responses=openapi.answers(200, openapi.page_of(RecipeSerializer), 400),
    )
    def get(self, request: Request) -> Response:
        """The recipes, with the range and the default of each parameter."""
        self.query(StrictSerializer)
        rows = [
            {
                "name": recipe.name,
                "title": recipe.title,
                "dataset_kind": recipe.dataset_kind,
                "parameters": [parameter.as_json() for parameter in recipe.parameters],
            }
            for recipe in RECIPES.values()
        ]
        return Response({"next": None, "previous": None, "results": rows})
