"""The Docker engine and the image registry that tests use, and the end of containers that test nodes left."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from tests.parts import missing_part

if TYPE_CHECKING:
    import docker

IMAGES = ("busybox", "ubuntu")
START = "run scripts/parts start"

RemoveContainersOf = Callable[[str], None]


def open_engine() -> docker.DockerClient:
    """A client of the engine that the environment names. Raises DockerException, OSError where none answers.

    Looks for its socket first: one that refuses the library is never closed by it, and fails whichever test runs when
    it is collected.
    """
    import docker

    scheme, _, path = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").partition("://")
    if scheme == "unix":
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(path)
    return docker.from_env()


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[docker.DockerClient]:
    """A client of a Docker engine that answers and has the images `busybox` and `ubuntu`."""
    from docker.errors import DockerException, ImageNotFound

    try:
        client = open_engine()
    except (DockerException, OSError) as error:
        missing_part("a Docker engine", f"{START} ({error})")
    try:
        client.ping()
        for image in IMAGES:
            client.images.get(image)
    except ImageNotFound as error:
        client.close()
        missing_part("a Docker image", f"{START} ({error})")
    except DockerException as error:
        client.close()
        missing_part("a Docker engine", f"{START} ({error})")
    yield client
    client.close()


def remove_containers(engine: docker.DockerClient, node_id: str) -> None:
    """Removes every container with the label of this node, running or not."""
    from docker.errors import NotFound

    from bacalhau.runtime.docker_request import NODE_LABEL

    filters: dict[str, str | list[str] | bool] = {"label": f"{NODE_LABEL}={node_id}"}
    for container in engine.containers.list(all=True, filters=filters, ignore_removed=True):
        with suppress(NotFound):
            container.remove(force=True)


@pytest.fixture
def remove_containers_of(docker_engine: docker.DockerClient) -> Iterator[RemoveContainersOf]:
    """Call it with the id of a node: at the test's end no container with that node's label is left."""
    node_ids: list[str] = []
    yield node_ids.append
    for node_id in node_ids:
        remove_containers(docker_engine, node_id)


@pytest.fixture(scope="session")
def registry() -> str:
    """The address of an image registry without TLS or authentication, such as 127.0.0.1:5000."""
    address = os.environ.get("BACALHAU_TEST_REGISTRY", "127.0.0.1:5000")
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=2).close()
    except OSError as error:
        missing_part(f"an image registry on {address}", f"{START} ({error})")
    return address
