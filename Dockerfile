# syntax=docker/dockerfile:1
# One image for the web side, the prediction plane, the trainer and the migrations; the command says which it is.

FROM python:3.11-slim-bookworm AS packages
COPY requirements.lock /
RUN python -m venv /opt/venv && \
    /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes --no-deps -r /requirements.lock

# The prediction plane is compiled; compiler and C compiler stay behind.
FROM packages AS compiled
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev
COPY requirements-compile.lock /
RUN /opt/venv/bin/pip install --disable-pip-version-check --require-hashes --no-deps --target /opt/compiler -r /requirements-compile.lock
WORKDIR /app
COPY aiaas_site aiaas_site
COPY tenants tenants
COPY modelhub modelhub
COPY inference inference
RUN PYTHONPATH=/opt/compiler /opt/venv/bin/python -m aiaas_site.compiling

FROM python:3.11-slim-bookworm
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    DJANGO_SETTINGS_MODULE=aiaas_site.settings \
    AIAAS_ENV=production \
    STATIC_ROOT=/app/static \
    FILES_DIR=/var/lib/aiaas/files \
    SPOOL_DIR=/var/lib/aiaas/spool \
    SCRATCH_DIR=/var/lib/aiaas/scratch
# A new volume takes the owner of the folder that it covers.
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin aiaas && \
    install --directory --owner aiaas --group aiaas --mode 700 "$FILES_DIR" "$SPOOL_DIR" "$SCRATCH_DIR"
COPY --from=packages /opt/venv /opt/venv
COPY --from=compiled /opt/venv/compiled /opt/venv/compiled
WORKDIR /app
COPY manage.py ./
COPY aiaas_site aiaas_site
COPY tenants tenants
COPY modelhub modelhub
COPY inference inference
# The secret is for this one command; it is in no layer that runs.
RUN SECRET_KEY=only-to-collect-static-files python manage.py collectstatic --noinput && python -m compileall -q .
USER aiaas
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
CMD ["python", "-m", "aiaas_site.server", "--host", "0.0.0.0", "--port", "8000"]
