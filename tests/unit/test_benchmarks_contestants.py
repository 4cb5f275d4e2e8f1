"""What happens to a contestant's store and to its processes, without starting any."""

import pytest

from benchmarks.contestants import Contestant


class Stopped(Exception):
    """The server did not end."""


class Store:
    """Notes that it was ended."""

    ended = False

    def __exit__(self, *error):
        self.ended = True


def test_the_store_is_ended_where_the_server_does_not_stop(tmp_path):
    def stop():
        raise Stopped

    contestant = Contestant("service", tmp_path, 1)
    contestant.store, contestant.process, contestant.stop = Store(), None, stop
    with pytest.raises(Stopped):
        contestant.__exit__()
    assert contestant.store.ended
