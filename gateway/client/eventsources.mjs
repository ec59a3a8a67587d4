// Part of the tests: NUMBER event streams at once, each as EventSource does it, which Node has not by itself. Prints each event's value, and each
// advisory's action, as a line of JSON.
//
//	node eventsources.mjs URL NUMBER
const [url, number] = process.argv.slice(2);
const say = (client, what) => process.stdout.write(JSON.stringify({ client, ...what }) + "\n");

async function follow(i) {
  let id = "", ended = false;
  while (!ended) {
    try {
      const response = await fetch(url, { headers: id ? { "Last-Event-ID": id } : {} });
      if (response.status !== 200) throw new Error(response.status);
      let text = "";
      for await (const part of response.body.pipeThrough(new TextDecoderStream())) {
        text += part;
        for (let end; (end = text.indexOf("\n\n")) >= 0; text = text.slice(end + 2)) {
          let data = "", kind = "message";
          for (const line of text.slice(0, end).split("\n")) {
            if (line.startsWith("id: ")) id = line.slice(4);
            if (line.startsWith("data: ")) data = line.slice(6);
            if (line.startsWith("event: ")) kind = line.slice(7);
          }
          if (!data || kind === "refused") continue;
          const m = JSON.parse(data);
          if (kind === "advisory") say(i, { state: m.value.action });
          else say(i, { type: "event", topic: m.topic, value: m.value });
          if (m.value === "end") ended = true;
        }
        if (ended) break;
      }
    } catch { /* and again */ }
    if (!ended) await new Promise(resolve => setTimeout(resolve, 20 + Math.random() * 100));
  }
}

await Promise.all(Array.from({ length: Number(number) }, (_, i) => follow(i)));
