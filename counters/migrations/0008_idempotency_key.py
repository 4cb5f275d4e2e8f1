"""Which `POST /hits/` have been answered, so that one that is sent again is counted once."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("counters", "0007_salts_kept")]

    operations = [
        migrations.CreateModel(
            name="IdempotencyKey",
            fields=[
                ("key", models.TextField(db_collation="C", primary_key=True, serialize=False)),
                ("request", models.BinaryField(help_text="BLAKE2b-256 of the body")),
                ("counted", models.BigIntegerField(help_text="hits, which is the answer")),
                ("at", models.DateTimeField()),
            ],
            options={"indexes": [models.Index("at", name="idempotencykey_at")]},
        ),
    ]
