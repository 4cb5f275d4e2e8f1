"""How a connection is spoken to."""

from types import SimpleNamespace

import pytest
from gunicorn.config import Config

from hitcounter.protocol import PatientProtocol


def test_requests_are_parsed_by_the_parser_in_c_where_it_is_installed():
    in_c = pytest.importorskip("gunicorn_h1c").H1CProtocol
    connection = PatientProtocol(SimpleNamespace(cfg=Config(), log=None, asgi=None))
    connection._setup_callback_parser()
    assert type(connection._callback_parser) is in_c
