"""What was found whenever the books were verified."""

from uuid import uuid4

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("counters", "0011_loadtest_progress")]

    operations = [
        migrations.CreateModel(
            name="Verification",
            fields=[
                ("id", models.UUIDField(default=uuid4, editable=False, primary_key=True, serialize=False)),
                ("at", models.DateTimeField()),
                ("checked", models.BigIntegerField(help_text="paths")),
                ("differing", models.BigIntegerField(help_text="of these paths")),
                ("rollups_differing", models.BigIntegerField(help_text="figures rolled up of all paths")),
            ],
            options={
                "ordering": ["-at"],
                "indexes": [models.Index("at", name="verification_at")],
            },
        ),
    ]
