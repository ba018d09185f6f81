"""The operator's admin: each of its pages runs in one transaction that may see every tenant."""

from collections.abc import Callable
from typing import Any

from django.contrib import admin
from django.contrib.admin.apps import AdminConfig as DjangoAdminConfig
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.template.response import SimpleTemplateResponse

from tenants import scoping

View = Callable[..., HttpResponseBase]


class OperatorSite(admin.AdminSite):
    site_header = "AI models as a service"
    site_title = "Operator"
    index_title = "What customers have, use and owe"
    site_url = "/api/docs/"

    def admin_view(self, view: View, cacheable: bool = False) -> Any:
        guarded: View = super().admin_view(view, cacheable)

        def in_operator_scope(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            with scoping.operator():
                response = guarded(request, *args, **kwargs)
                if isinstance(response, SimpleTemplateResponse) and not response.is_rendered:
                    response.render()
                return response

        return in_operator_scope


class AdminConfig(DjangoAdminConfig):
    default_site = "aiaas_site.admin.OperatorSite"
