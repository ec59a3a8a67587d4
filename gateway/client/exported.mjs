// Part of the tests: prints the names that the module exports, and the members of classes that are not the client's own, as JSON.
//
//	node exported.mjs CLIENT     CLIENT is the file of the client
import { pathToFileURL } from "node:url";

const module = await import(pathToFileURL(process.argv[2]));
class Nowhere {
  close() {}
}
const client = module.connect("http://nowhere/", { WebSocket: Nowhere }), instances = {
  Client: client, Subscription: client.subscribe("a"), PghubError: new module.PghubError("code", "message", "topic"),
};
const own = new Set([...Object.keys(new Error()), "name", "stack", "message", "constructor"]);
const names = Object.entries(module).map(([name, value]) => {
  const instance = instances[name];
  if (!instance) return [name, []];
  const members = [...Reflect.ownKeys(value.prototype), ...Reflect.ownKeys(instance)].filter(m => !own.has(m) && String(m)[0] !== "_");
  return [name, members.map(m => typeof m === "symbol" ? `[${m.description}]` : m).sort()];
});
client.close();
process.stdout.write(JSON.stringify(Object.fromEntries(names)));
