"""Measurements in the admin: how fast each engine runs a version on hosts of a kind."""

from django.contrib import admin
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from inference.models import EngineMeasurement
from tenants.admin.base import ReadOnlyAdmin


@admin.register(EngineMeasurement)
class EngineMeasurementAdmin(ReadOnlyAdmin):
    """Read-only; taken when a version is first loaded on a kind of host."""

    list_display = (
        "version", "tenant", "engine", "file", "best_batch", "threads_of_a_lone_request", "host", "disturbance",
        "measured_at",
    )  # fmt: skip
    list_filter = ("engine", "file", "tenant")
    list_select_related = ("tenant", "version__model")
    search_fields = ("version__model__name", "tenant__name", "host")
    date_hierarchy = "measured_at"
    ordering = ("-measured_at",)
    fields = (
        "version", "tenant", "host", "engine", "file", "best_batch", "threads_of_a_lone_request", "times",
        "disturbance", "measured_at",
    )  # fmt: skip
    readonly_fields = fields

    @admin.display(description="milliseconds by rows in the batch")
    def times(self, row: EngineMeasurement) -> SafeString:
        """A table with a row for each candidate and number of threads."""
        lines = [
            (f"{one['engine']} {one['file']}", threads, by_rows, one.get("milliseconds_besides", ""))
            for one in row.table
            for threads, by_rows in one["milliseconds_by_threads_and_batch"].items()
        ]
        sizes = sorted({int(size) for _, _, by_rows, _ in lines for size in by_rows})
        head = format_html_join("", "<th>{}</th>", [(size,) for size in sizes])
        body = format_html_join(
            "",
            "<tr><td>{}</td><td>{}</td>{}<td>{}</td></tr>",
            [
                (
                    name,
                    threads,
                    format_html_join("", "<td>{}</td>", [(row.get(str(size), ""),) for size in sizes]),
                    more,
                )
                for name, threads, row, more in lines
            ],
        )
        failed = format_html_join(
            "", "<p>{} {}: {}</p>", [(o["engine"], o["file"], o["error"]) for o in row.table if o["error"]]
        )
        return format_html(
            "<table><tr><th>candidate</th><th>threads</th>{}<th>besides</th></tr>{}</table>{}", head, body, failed
        )
