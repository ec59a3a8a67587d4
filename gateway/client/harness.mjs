// Part of the tests: follows topics of a gateway, and prints each event, gap and state as a line of JSON.
//
//	node harness.mjs URL NUMBER TOPIC… [since=…]     NUMBER clients at once
import { connect } from "./client.js";

const [url, number, ...topics] = process.argv.slice(2);
const options = topics.at(-1)?.startsWith("since=") ? { since: topics.pop().slice("since=".length) } : {};
const say = (i, what) => process.stdout.write(JSON.stringify({ client: i, ...what }) + "\n");
for (let i = 0; i < Number(number); i++) {
  const client = connect(url, { minDelay: 20, maxDelay: 200, onState: (state, reason) => say(i, { state, reason }) });
  (async () => {
    try {
      const subscription = client.subscribe(...topics, options);
      subscription.ready.then(() => say(i, { state: "ready" }), () => {});
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
