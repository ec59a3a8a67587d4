// Part of the tests: follows topics of a gateway, and prints each event, gap, answer and state as a line of JSON.
//
//	node harness.mjs CLIENT URL NUMBER TOPIC… [since=…] [token=…]     CLIENT is the file of the client, NUMBER how many of them there are
import { pathToFileURL } from "node:url";

const [file, url, number, ...topics] = process.argv.slice(2);
const token = topics.at(-1)?.startsWith("token=") ? topics.pop().slice("token=".length) : undefined;
const { connect } = await import(pathToFileURL(file));
const options = topics.at(-1)?.startsWith("since=") ? { since: topics.pop().slice("since=".length) } : {};
const say = (i, what) => process.stdout.write(JSON.stringify({ client: i, ...what }) + "\n");
for (let i = 0; i < Number(number); i++) {
  class Telling extends WebSocket {
    set onmessage(take) {
      this.addEventListener("message", message => {
        take(message);
        const { op } = JSON.parse(message.data);
        if (op) setImmediate(() => say(i, { state: op })); // behind the events that came before it
      });
    }
  }
  const client = connect(url, { minDelay: 20, maxDelay: 200, token, WebSocket: Telling, onState: (state, reason, error) => say(i, { state, reason, error: error?.code }) });
  (async () => {
    try {
      const subscription = client.subscribe(...topics, options);
      subscription.ready.then(() => say(i, { state: "ready" }), error => say(i, { state: "not ready", error: error.code }));
      for await (const event of subscription) {
        say(i, event);
        if (event.value === "end") break;
      }
      client.close();
    } catch (error) {
      say(i, { error: error.code });
      client.close();
    }
  })();
}
