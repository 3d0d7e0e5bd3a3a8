// Asks a server for its contract by reflection, then calls Recommend with what it learned.
// Usage: node ask.js HOST:PORT REQUEST.json; prints what the server lists and answers, as JSON.
"use strict";

const fs = require("node:fs");
const grpc = require("@grpc/grpc-js");
const { GrpcReflection } = require("grpc-js-reflection-client");

const SERVICE = "recguru.v1.Recommender";

async function main(address, requestFile) {
  const credentials = grpc.credentials.createInsecure();
  const reflection = new GrpcReflection(address, credentials);
  const services = await reflection.listServices();
  const descriptor = await reflection.getDescriptorBySymbol(SERVICE);
  const contract = descriptor.getPackageObject({ keepCase: true, enums: String, longs: String });
  const client = new contract.recguru.v1.Recommender(address, credentials);
  const request = JSON.parse(fs.readFileSync(requestFile, "utf8"));
  const answer = await new Promise((resolve, reject) => {
    const deadline = Date.now() + 20000;
    client.Recommend(request, { deadline }, (error, response) =>
      error ? reject(error) : resolve(response),
    );
  });
  client.close();
  process.stdout.write(JSON.stringify({ services, answer }));
}

main(...process.argv.slice(2)).then(
  () => process.exit(0), // the reflection client keeps its connection open
  (error) => {
    process.stderr.write(`${error.stack}\n`);
    process.exit(1);
  },
);
