"""How far log files have been imported."""

from uuid import uuid4

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("counters", "0008_idempotency_key")]

    operations = [
        migrations.CreateModel(
            name="ImportedLog",
            fields=[
                ("id", models.UUIDField(default=uuid4, editable=False, primary_key=True, serialize=False)),
                ("name", models.TextField(help_text="of the file that had new lines last")),
                ("head", models.BinaryField(help_text="BLAKE2b-128 of its first line")),
                ("offset", models.BigIntegerField(help_text="bytes that have been imported, before compression")),
                ("tail", models.BinaryField(help_text="BLAKE2b-128 of what precedes the offset, 64 KiB at most")),
                ("marks", models.BinaryField(help_text="the same of offsets before, one after the other")),
                ("lines", models.BigIntegerField(help_text="among these bytes")),
                ("hits", models.BigIntegerField(help_text="that were counted")),
                ("updated", models.DateTimeField(auto_now=True)),
            ],
            options={
                "ordering": ["-updated"],
                "indexes": [models.Index("head", name="importedlog_head")],
            },
        ),
    ]
