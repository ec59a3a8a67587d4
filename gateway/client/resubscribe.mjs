// Part of the tests: leaves a topic while events of it are on their way, and subscribes to it at once, to all that there was. Prints
// what the second subscription gets.
//
//	node resubscribe.mjs CLIENT URL     CLIENT is the file of the client
import { pathToFileURL } from "node:url";

const [file, url] = process.argv.slice(2);
const { connect } = await import(pathToFileURL(file));
const say = what => process.stdout.write(JSON.stringify(what) + "\n");
const held = [];
let holding = false, complete;
const completed = new Promise(resolve => { complete = resolve; });

// Holding is a connection whose messages can be held on their way.
class Holding extends WebSocket {
  set onmessage(take) {
    this.addEventListener("message", message => {
      if (!holding) return take(message);
      held.push(() => take(message));
      if (JSON.parse(message.data).value === "end") complete();
    });
  }
}

const client = connect(url, { WebSocket: Holding });
const first = client.subscribe("a");
await first.ready;
say({ state: "ready" });
await first.next();
holding = true;
say({ state: "holding" });
await completed;
first.close();
const second = client.subscribe("a", { since: "earliest" });
holding = false;
for (const deliver of held) deliver();
for await (const event of second) {
  say(event);
  if (event.value === "end") break;
}
client.close();
