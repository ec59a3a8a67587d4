// Part of the tests: leaves a pattern before the gateway has said what it stands for, and subscribes to one of its topics at once, to all that
// there was. Prints what the second subscription gets.
//
//	node leftpattern.mjs CLIENT URL     CLIENT is the file of the client
import { pathToFileURL } from "node:url";

const [file, url] = process.argv.slice(2);
const { connect } = await import(pathToFileURL(file));
let open;
const opened = new Promise(resolve => { open = resolve; });
const client = connect(url, { onState: state => { if (state === "open") open(); } });
await opened;
client.subscribe("?").close();
const second = client.subscribe("a", { since: "earliest" });
second.ready.then(() => process.stdout.write('{"state":"ready"}\n'));
for await (const event of second) {
  process.stdout.write(JSON.stringify(event) + "\n");
  if (event.value === "end") break;
}
client.close();
