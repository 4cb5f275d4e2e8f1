import uuid

import django.db.models.deletion
import django.db.models.expressions
import django.db.models.functions.comparison
import django.db.models.functions.math
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
    ]

    operations = [
        migrations.CreateModel(
            name='BatchLedger',
            fields=[
                ('pk', models.CompositePrimaryKey('writer', 'batch', blank=True, editable=False, primary_key=True, serialize=False)),
                ('writer', models.UUIDField(help_text='drawn at random when a recorder starts')),
                ('batch', models.BigIntegerField(help_text='numbered by the writer')),
                ('at', models.DateTimeField()),
                ('totals', models.TextField(help_text="each counter's new total, in the order of their ids, separated by spaces")),
            ],
            options={
                'verbose_name_plural': 'batch ledger',
            },
        ),
        migrations.CreateModel(
            name='Counter',
            fields=[
                ('id', models.UUIDField(help_text='BLAKE2b-128 of the path', primary_key=True, serialize=False)),
                ('path', models.TextField(db_collation='C', help_text='as requested, byte for byte, without the query string')),
                ('hits', models.BigIntegerField()),
                ('first_hit', models.DateTimeField(null=True)),
                ('last_hit', models.DateTimeField(null=True)),
                ('magnitude', models.GeneratedField(db_persist=True, expression=models.Case(models.When(hits__gt=0, then=django.db.models.functions.comparison.Cast(django.db.models.functions.math.Floor(django.db.models.expressions.CombinedExpression(models.Func(django.db.models.functions.comparison.Cast(models.F('hits'), models.FloatField()), function='log'), '*', models.Value(4))), models.SmallIntegerField())), default=-1), output_field=models.SmallIntegerField())),
            ],
            options={
                'indexes': [models.Index(models.OrderBy(models.F('magnitude'), descending=True), models.F('path'), name='counter_magnitude'), models.Index(models.F('path'), name='counter_path')],
                'constraints': [models.CheckConstraint(condition=models.Q(('hits__gte', 0)), name='counter_hits_not_negative')],
            },
        ),
        migrations.CreateModel(
            name='HourlyHits',
            fields=[
                ('pk', models.CompositePrimaryKey('counter_id', 'hour', blank=True, editable=False, primary_key=True, serialize=False)),
                ('hour', models.DateTimeField(help_text='start of the hour, UTC')),
                ('hits', models.BigIntegerField()),
                ('counter', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name='hours', to='counters.counter')),
            ],
            options={
                'verbose_name_plural': 'hourly hits',
            },
        ),
        migrations.CreateModel(
            name='LoadTestRun',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('started', models.DateTimeField(auto_now_add=True)),
                ('url', models.TextField(help_text='address of the service that was tested', verbose_name='service')),
                ('requested', models.PositiveIntegerField()),
                ('concurrency', models.PositiveIntegerField()),
                ('seed', models.TextField(blank=True)),
                ('report', models.JSONField(help_text='empty while the test runs, or when it was cut short', null=True)),
            ],
            options={
                'ordering': ['-started'],
                'indexes': [models.Index(models.F('started'), name='loadtestrun_started')],
            },
        ),
    ]
