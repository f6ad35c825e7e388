"""The demonstration: what a person would type, with what it prints.

Three nodes, three processes, three data folders. The first accepts the jobs; all of them may bid: the second is the
cheapest, the third is too small for the jobs and says so.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

HERE = Path(__file__).parent
BACALHAU = (sys.executable, "-m", "bacalhau")
START_TIMEOUT_S = 30
POEM = """\
Bacalhau, dried and salted cod,
feeds a thousand recipes:
send the program to the data,
and the answer home to me.
"""


def main() -> int:
    started = time.monotonic()
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="bacalhau-demo-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        say("A network of three nodes, each a process of its own")
        first = start_node(stack, folder / "first", "--price-cpu-second", "12")
        peer = ("--peer", first["peer_address"])
        start_node(stack, folder / "second", *peer, "--price-cpu-second", "8")
        start_node(stack, folder / "third", *peer, "--price-cpu-second", "5", "--limit-job-memory", "256Mi")
        host, _, port = first["api_address"].rpartition(":")
        os.environ.update(BACALHAU_API_HOST=host, BACALHAU_API_PORT=port)
        wait_for_nodes(3)
        run("node", "list")

        say("A folder goes into the embedded IPFS; the CID is the one that `ipfs add -r` gives")
        os.chdir(folder)
        shutil.copy(HERE / "copy.wat", "copy.wat")
        Path("data").mkdir()
        Path("data", "poem.txt").write_text(POEM)
        cid = run("ipfs", "add", "-r", "-Q", "data", keep=True)

        say("A WASM job that mounts it: offered to all, won by the cheapest bid")
        show_result(run_job("wasm", "run", "-v", f"{cid}:/inputs", "copy.wat"))

        image = docker_image()
        if image:
            say(f"The same with Docker ({image})")
            script = "wc -l < /files/poem.txt; sort /files/poem.txt > /outputs/sorted.txt"
            show_result(run_job("docker", "run", "-v", f"{cid}:/files", image, "--", "sh", "-c", script))
        run("list", "--all")
        say("Done: the nodes are stopped")
    print(f"It took {time.monotonic() - started:.0f} seconds, and nothing is left running.")
    return 0


def say(text: str) -> None:
    print(f"\n== {text}", flush=True)


def start_node(stack: ExitStack, folder: Path, *flags: str) -> dict[str, str]:
    """Starts `bacalhau serve` on free ports; its addresses. It is stopped with the stack."""
    folder.mkdir()
    ready, log = folder / "ready.json", folder / "log"
    command = [*BACALHAU, "serve", "--data-dir", str(folder), "--api-port", "0", "--peer-port", "0"]
    command += ["--ready-file", str(ready), "--heartbeat", "500ms", *flags]
    print(f"$ bacalhau serve {' '.join(flags)}", flush=True)
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
    stack.callback(stop, process)
    deadline = time.monotonic() + START_TIMEOUT_S
    while not ready.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"the node did not start:\n{log.read_text(errors='replace')}")
        time.sleep(0.05)
    addresses: dict[str, str] = json.loads(ready.read_text())
    return addresses


def stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_for_nodes(count: int) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        listed = subprocess.run(
            [*BACALHAU, "node", "list", "--output", "json"], capture_output=True, check=True
        )
        if len(json.loads(listed.stdout)) >= count:
            return
        time.sleep(0.1)
    sys.exit(f"the nodes did not find each other within {START_TIMEOUT_S} seconds")


def run(*arguments: str, keep: bool = False) -> str:
    """Runs one command as a person would, showing it; with `keep` its output is returned too."""
    print(f"$ bacalhau {shlex.join(arguments)}", flush=True)
    result = subprocess.run(
        [*BACALHAU, *arguments], stdout=subprocess.PIPE if keep else None, text=True, check=False
    )
    if result.returncode:
        sys.exit(result.returncode)
    if not keep:
        return ""
    print(result.stdout, end="", flush=True)
    return result.stdout.strip()


def run_job(*arguments: str) -> str:
    """Runs a job, showing its output and progress; the job's id."""
    run(*arguments)
    listed = subprocess.run(
        [*BACALHAU, "list", "-n", "1", "--output", "json"], capture_output=True, check=True
    )
    return str(json.loads(listed.stdout)[0]["id"])


def show_result(job: str) -> None:
    """Fetches the result folder and shows what is inside it."""
    place = Path(f"result-{job[2:10]}")
    run("get", job, "--output-dir", str(place))
    for path in sorted(path for path in place.rglob("*") if path.is_file()):
        content = path.read_text(errors="replace")
        first, *more = content.splitlines() or [""]
        print(f"    {path.relative_to(place)}: {first}{' …' if more else ''}")


def docker_image() -> str:
    """An image that is on this machine, where a Docker engine answers; else "", and one line that says why."""
    import docker
    import docker.errors

    try:
        client = docker.from_env(timeout=5)
        try:
            tags = [tag for image in client.images.list() for tag in image.tags]
        finally:
            client.close()
    except docker.errors.DockerException:
        print("\n(no Docker engine answers here, so only WASM is shown)")
        return ""
    for name in ("ubuntu:latest", "busybox:latest"):
        if name in tags:
            return name.partition(":")[0]
    print(
        "\n(Docker answers, but has neither the ubuntu nor the busybox image; `docker pull busybox` adds one)"
    )
    return ""


if __name__ == "__main__":
    sys.exit(main())
