"""The server's process: what it asks of the system."""

import resource

from aiaas_site import server


def test_a_server_takes_as_many_open_files_as_it_may() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
        server._allow_open_files()
        allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        assert most == before[1]
        assert allowed == (server.OPEN_FILES if most == resource.RLIM_INFINITY else min(most, server.OPEN_FILES))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
