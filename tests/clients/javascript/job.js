// A whole job by stubs made at run time: add an input, submit, watch, read the output, fetch the result.
//
//     node job.js 127.0.0.1:1234

const path = require("path");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const files = ["bacalhau/v1/job_service.proto", "bacalhau/v1/ipfs_service.proto"];
const folder = path.join(__dirname, "../../../proto");
const definition = loader.loadSync(files, {
  includeDirs: [folder],
  keepCase: true,
  defaults: true,
  enums: String,
  longs: String,
});
const { v1 } = grpc.loadPackageDefinition(definition).bacalhau;

const address = process.argv[2];
const jobs = new v1.JobService(address, grpc.credentials.createInsecure());
const ipfs = new v1.IpfsService(address, grpc.credentials.createInsecure());

// One answer to a call that takes a request and a callback.
const call = (client, method, request) =>
  new Promise((resolve, reject) =>
    client[method](request, (error, answer) => (error ? reject(error) : resolve(answer))),
  );

// Add an input: a stream of headers, each followed by the chunks of its content.
const add = (content) =>
  new Promise((resolve, reject) => {
    const stream = ipfs.Add((error, answer) => (error ? reject(error) : resolve(answer)));
    stream.write({ entry: { type: "ENTRY_TYPE_FILE" } });
    stream.write({ chunk: Buffer.from(content) });
    stream.end();
  });

async function main() {
  const added = await add("pear\napple\nfig\n");
  console.log("input", added.cid);

  // Submit a job that sorts it.
  const spec = {
    docker: { image: "ubuntu", command: ["sort", "/inputs/fruit.txt"] },
    inputs: [{ cid: added.cid, target: "/inputs/fruit.txt" }],
  };
  let { job } = await call(jobs, "SubmitJob", { spec });

  // Watch it until it ends: the last event comes with the job in full.
  for await (const watched of jobs.WatchJob({ job_id: job.id })) {
    for (const event of watched.events) console.log(event.type, event.message);
    job = watched.job || job;
  }

  // What the program wrote; with follow: true and while it runs, as it writes it.
  for await (const piece of jobs.StreamLogs({ job_id: job.id })) {
    process.stdout.write(piece.data);
  }

  // The result is a folder in IPFS: stdout, stderr, exitCode, and a folder for each output.
  for (const execution of job.executions) {
    const cid = execution.report.result_cid;
    const chunks = [];
    for await (const answer of ipfs.Get({ path: `${cid}/stdout` })) {
      if (answer.chunk) chunks.push(answer.chunk);
    }
    const stdout = Buffer.concat(chunks).toString();
    console.log("result", cid, "exit code", execution.report.exit_code, JSON.stringify(stdout));
  }
  jobs.close();
  ipfs.close();
}

main().catch((error) => {
  console.error(error.message);
  process.exit(1);
});
