"""The request that makes a container of a run: limits, mounts, labels, and what a program may do.

As root inside, with the engine's default capabilities less those of `DROPPED_CAPABILITIES`, so that images,
package managers and dropping of privileges work as users expect; never more privileges than it started with;
no core dumps. No init process, as with `docker run`: a program is stopped by SIGKILL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bacalhau.model.job import DockerTask, NetworkMode
from bacalhau.model.units import MIB

if TYPE_CHECKING:
    import docker

    from bacalhau.runtime.executor import Run

NODE_LABEL: Final = "bacalhau.node"
EXECUTION_LABEL: Final = "bacalhau.execution"
ATTEMPT_LABEL: Final = "bacalhau.attempt"

# Making device nodes, forging packets, and files that carry capabilities to whoever runs them from an output.
DROPPED_CAPABILITIES: Final = ("MKNOD", "NET_RAW", "SETFCAP")
# The engine refuses less.
MIN_MEMORY_BYTES: Final = 6 * MIB
MIN_CPU_MILLICORES: Final = 10
_CPU_PERIOD_US: Final = 100_000
# What the engine keeps of the output for a node that comes back; beyond that it drops the oldest. Of short
# lines this format stores several times as many as the default one.
_LOG_OPTIONS: Final = {"max-size": "64m", "max-file": "2", "compress": "false"}
_NETWORKS: Final = {NetworkMode.NONE: "none", NetworkMode.FULL: "bridge", NetworkMode.HOST: "host"}


def docker_task(run: Run) -> DockerTask:
    assert isinstance(run.spec.task, DockerTask), "a WASM task came to the Docker engine"
    return run.spec.task


def create_container(
    api: docker.APIClient, run: Run, node_id: str, name: str, working_directory: str, pids_limit: int
) -> str:
    """Make the container, not started; returns its id. Raises what the SDK raises."""
    from docker.types import LogConfig, Mount, Ulimit

    spec, task, workspace = run.spec, docker_task(run), run.workspace
    mounts = [
        Mount(source.target, str(path), type="bind", read_only=True)
        for source, path in zip(spec.inputs, workspace.inputs, strict=True)
    ]
    mounts += [
        Mount(output.path, str(path), type="bind")
        for output, path in zip(spec.outputs, workspace.outputs, strict=True)
    ]
    memory_bytes = max(spec.resources.memory_bytes, MIN_MEMORY_BYTES)
    host_config = api.create_host_config(
        mounts=mounts,
        network_mode=_NETWORKS[spec.network],
        mem_limit=memory_bytes,
        memswap_limit=memory_bytes,  # of both together: no swap
        # A quota, not nano_cpus, which the engine refuses above the machine's cores; in both versions of
        # cgroups.
        cpu_period=_CPU_PERIOD_US,
        cpu_quota=max(spec.resources.cpu_millicores, MIN_CPU_MILLICORES) * _CPU_PERIOD_US // 1000,
        pids_limit=pids_limit,
        security_opt=["no-new-privileges"],
        cap_drop=list(DROPPED_CAPABILITIES),
        ulimits=[Ulimit(name="core", soft=0, hard=0)],
        log_config=LogConfig(type="local", config=_LOG_OPTIONS),
    )
    created = api.create_container(
        task.image,
        command=list(task.command) or None,
        entrypoint=list(task.entrypoint) or None,
        working_dir=working_directory or None,
        environment={**dict(spec.env), "BACALHAU_EXECUTION_ID": run.execution_id},
        labels={
            NODE_LABEL: node_id,
            EXECUTION_LABEL: run.execution_id,
            ATTEMPT_LABEL: str(run.attempt),
        },
        host_config=host_config,
        name=name,
    )
    return str(created["Id"])
