// A client of another implementation: node opcua_client.js URL NAMESPACE COUNT
// Prints "subscribed", and after COUNT events what it has seen, as JSON.
const opcua = require("node-opcua-client");

const [url, namespace, count] = process.argv.slice(2);
const FIELDS = ["Seq", "Result", "PartId", "Score"];
const RESULT = ["ResultState", "PartId", "ResultId"];

function plain(variant) {
  const { value } = variant;
  return Array.isArray(value) ? value[1] : value; // Int64: the high word, the low word
}

async function main() {
  const client = opcua.OPCUAClient.create({ endpointMustExist: false });
  await client.connect(url);
  const session = await client.createSession();
  const namespaces = await session.readNamespaceArray();
  const space = namespaces.indexOf(namespace);
  const subscription = await session.createSubscription2({
    requestedPublishingInterval: 50, requestedLifetimeCount: 1000, requestedMaxKeepAliveCount: 10,
    maxNotificationsPerPublish: 100, publishingEnabled: true, priority: 1,
  });
  const filter = opcua.constructEventFilter(FIELDS.map((name) => `${space}:${name}`));
  const item = await subscription.monitor(
    { nodeId: `ns=${space};s=Station`, attributeId: opcua.AttributeIds.EventNotifier },
    { samplingInterval: 0, discardOldest: true, queueSize: 100, filter },
    opcua.TimestampsToReturn.Both,
  );
  const types = namespaces.indexOf("http://opcfoundation.org/UA/MachineVision");
  const vision = await subscription.monitor(
    { nodeId: `ns=${space};s=VisionSystem`, attributeId: opcua.AttributeIds.EventNotifier },
    { samplingInterval: 0, discardOldest: true, queueSize: 100,
      filter: opcua.constructEventFilter(RESULT.map((name) => `${types}:${name}`),
        opcua.ofType(`ns=${types};i=1024`)) }, // ResultReadyEventType
    opcua.TimestampsToReturn.Both,
  );
  const results = [];
  const all = new Promise((resolve) => vision.on("changed", (fields) => {
    results.push(fields);
    if (results.length === Number(count)) resolve();
  }));
  const events = [];
  const enough = new Promise((resolve) => item.on("changed", (fields) => {
    events.push(fields.map(plain));
    if (events.length === Number(count)) resolve();
  }));
  console.log("subscribed");
  await enough;
  await all;
  const nodes = ["Result", "Seq", "PartId", "Score"].map((name) => (
    { nodeId: `ns=${space};s=Station.${name}`, attributeId: opcua.AttributeIds.Value }));
  const values = (await session.read(nodes)).map((one) => plain(one.value));
  for (const fields of results) await opcua.promoteOpaqueStructure(session, fields);
  const ids = results.map((fields) => fields.map(({ value }) => value?.id ?? value));
  console.log(JSON.stringify({ events, values, results: ids }));
  await session.close();
  await client.disconnect();
}

main().then(() => process.exit(0), (error) => { console.error(error); process.exit(1); });
