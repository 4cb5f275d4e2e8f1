"""manage.py createkey."""

from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command

from counters.hits import now
from counters.models import ApiKey

pytestmark = pytest.mark.django_db


def test_the_key_alone_is_printed_and_works(client, settings, capsys):
    settings.HITCOUNTER_OPEN = False
    call_command("createkey", "gateway", "--scope", "ingest", "--scope", "stats", "--scope", "stats")
    out, err = capsys.readouterr()
    assert (out.count("\n"), err) == (1, "")
    assert client.get("/stats/", headers={"Authorization": f"Bearer {out.strip()}"}).status_code == 200
    key = ApiKey.objects.get()
    assert (key.name, key.scopes, key.expiry_date, key.prefix) == ("gateway", ["ingest", "stats"], None, out[:8])


def test_a_key_may_have_an_end(capsys):
    call_command("createkey", "gateway", "--scope", "admin", "--days", "30")
    left = ApiKey.objects.get().expiry_date - now()
    assert timedelta(days=30) - timedelta(minutes=1) < left <= timedelta(days=30)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a"], "Give --scope stats, ingest, loadtest or admin, once or more."),
        (
            ["a", "--scope", "all"],
            "There is no scope 'all'; give --scope stats, ingest, loadtest or admin, once or more.",
        ),
        (["a", "--scope", "stats", "--days", "0"], "--days '0' is not a whole number from 1 to 36,500."),
        (["a", "--scope", "stats", "--days", "-1"], "--days '-1' is not a whole number from 1 to 36,500."),
        (["a", "--scope", "stats", "--days", "soon"], "--days 'soon' is not a whole number from 1 to 36,500."),
        (["a", "--scope", "stats", "--days", "99999"], "--days '99999' is not a whole number from 1 to 36,500."),
        (["", "--scope", "stats"], "A key needs a name, of at most 50 characters."),
        (["x" * 51, "--scope", "stats"], "A key needs a name, of at most 50 characters."),
        (["a\0", "--scope", "stats"], "A key needs a name, of at most 50 characters."),
    ],
)
def test_what_makes_no_key_is_told_in_a_sentence(arguments, said):
    with pytest.raises(CommandError) as raised:
        call_command("createkey", *arguments)
    assert (str(raised.value), raised.value.returncode) == (said, 1)
    assert not ApiKey.objects.exists()
