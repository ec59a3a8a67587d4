// Part of the tests: has one subscription of topic a, which wants some of its events, and from the event "more" on another, which wants others.
// Prints what they get, and how many events have come for both until then.
//
//	node filters.mjs CLIENT URL     CLIENT is the file of the client
import { pathToFileURL } from "node:url";

const [file, url] = process.argv.slice(2);
const { connect } = await import(pathToFileURL(file));
const say = what => process.stdout.write(JSON.stringify(what) + "\n");
let came = 0;
class Counting extends WebSocket {
  set onmessage(take) {
    this.addEventListener("message", message => {
      if (JSON.parse(message.data).topic) came++;
      take(message);
    });
  }
}

const client = connect(url, { minDelay: 20, maxDelay: 200, WebSocket: Counting });
let ended = 0;
async function follow(number, filter) {
  const subscription = client.subscribe("a", { filter });
  subscription.ready.then(() => say({ client: number, state: "ready" }));
  for await (const event of subscription) {
    say({ client: number, ...event });
    if (event.value.is === "more") {
      say({ client: number, state: "came", reason: String(came) });
      follow(1, { where: { status: "sold" } });
    }
    if (event.value.is === "end" && ++ended === 2) client.close();
  }
}
follow(0, { key: [9007199254740993n, 2] });
