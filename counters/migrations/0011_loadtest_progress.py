"""How far a load test is, and what went wrong."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("counters", "0010_leaders")]

    operations = [
        migrations.AddField(
            model_name="loadtestrun",
            name="ended",
            field=models.PositiveIntegerField(db_default=0, default=0, help_text="requests, answered or not, so far"),
        ),
        migrations.AddField(
            model_name="loadtestrun",
            name="failure",
            field=models.TextField(
                blank=True, db_default="", default="", help_text="what went wrong, if that is known"
            ),
        ),
    ]
