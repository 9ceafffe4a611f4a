// Asks for the instance's id, and for a role's credentials, with the AWS SDK for JavaScript; prints both as JSON.

const { MetadataService } = require("@aws-sdk/ec2-metadata-service");
const { fromInstanceMetadata } = require("@smithy/credential-provider-imds");

const outcome = (promise) =>
  promise.catch((error) => ({ error: error.name, status: error.statusCode ?? error.$metadata?.httpStatusCode }));

(async () => {
  const service = new MetadataService();
  const read = {
    id: await outcome(service.request("/latest/meta-data/instance-id", {})),
    document: await outcome(service.request("/openstack/latest/meta_data.json", {}).then(JSON.parse)),
    credentials: await outcome(fromInstanceMetadata({ timeout: 5000 })()),
  };
  // It leaves connections open on which an answer was not read.
  process.stdout.write(JSON.stringify(read), () => process.exit(0));
})();
