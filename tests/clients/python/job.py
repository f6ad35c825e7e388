"""A whole job by generated stubs: add an input, submit, watch, read the output, fetch the result.

python job.py 127.0.0.1:1234
"""

import sys

import grpc

from bacalhau.v1 import ipfs_service_pb2, job_pb2, job_service_pb2
from bacalhau.v1.ipfs_service_pb2_grpc import IpfsServiceStub
from bacalhau.v1.job_service_pb2_grpc import JobServiceStub

with grpc.insecure_channel(sys.argv[1]) as channel:
    jobs, ipfs = JobServiceStub(channel), IpfsServiceStub(channel)

    # Add an input: a stream of headers, each followed by the chunks of its content.
    parts = [
        ipfs_service_pb2.AddRequest(
            entry=ipfs_service_pb2.EntryHeader(type=ipfs_service_pb2.ENTRY_TYPE_FILE)
        ),
        ipfs_service_pb2.AddRequest(chunk=b"pear\napple\nfig\n"),
    ]
    added = ipfs.Add(iter(parts))
    print("input", added.cid)

    # Submit a job that sorts it.
    spec = job_pb2.JobSpec(
        docker=job_pb2.DockerTask(image="ubuntu", command=["sort", "/inputs/fruit.txt"]),
        inputs=[job_pb2.InputSource(cid=added.cid, target="/inputs/fruit.txt")],
    )
    job = jobs.SubmitJob(job_service_pb2.SubmitJobRequest(spec=spec)).job

    # Watch it until it ends: the last event comes with the job in full.
    for watched in jobs.WatchJob(job_service_pb2.WatchJobRequest(job_id=job.id)):
        for event in watched.events:
            print(job_pb2.JobEventType.Name(event.type), event.message)
        if watched.HasField("job"):
            job = watched.job

    # What the program wrote; with follow=True and while it runs, as it writes it.
    for piece in jobs.StreamLogs(job_service_pb2.StreamLogsRequest(job_id=job.id)):
        print(piece.data.decode(), end="")

    # The result is a folder in IPFS: stdout, stderr, exitCode, and a folder for each output.
    for execution in job.executions:
        content = ipfs.Get(ipfs_service_pb2.GetRequest(path=f"{execution.report.result_cid}/stdout"))
        stdout = b"".join(answer.chunk for answer in content)
        print("result", execution.report.result_cid, "exit code", execution.report.exit_code, stdout)
