"""The control plane's paths; the prediction plane's are in `inference/plane/app.py`."""

from django.contrib import admin
from django.urls import include, path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView

urlpatterns = [
    path("admin/", admin.site.urls),
    path("api/schema/", SpectacularAPIView.as_view(), name="schema"),
    path("api/docs/", SpectacularSwaggerView.as_view(url_name="schema"), name="docs"),
    path("api/v1/", include("tenants.api.urls")),
    path("api/v1/", include("modelhub.api.urls")),
    path("api/v1/", include("inference.api.urls")),
]

handler404 = "tenants.api.problems.not_found"
handler500 = "tenants.api.problems.server_error"
