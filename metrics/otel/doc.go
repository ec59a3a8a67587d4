// Package pghubotel brings the figures of hubs, of their consumers, of streams and of caches to OpenTelemetry, and traces through their events.
//
// # Metrics
//
// [NewMetrics] registers observable instruments for a hub: they are read when the meter's reader asks, and cost nothing else.
// [Metrics.Observe] is middleware that measures how long handlers take. The attributes are pghub.hub, Config.Name, and
// pghub.consumer, ConsumerConfig.Name: consumers of the same name are added up, those that are gone go on counting, and after
// 256 names further ones are counted under the empty name. [NewStreamMetrics], [NewStreamStatusMetrics] and [NewCacheMetrics] do the
// same for streams and caches.
//
// # Tracing
//
// [Tracing.Notify] begins a producer span and sends its context along with the event; [Tracing.Handle] is middleware that
// begins a consumer span around the handler, with a link to that of the producer. It is a link and no parent: one event has
// many consumers, and may be handled long after the producer's trace has ended.
//
// An event of a stream has headers for this: stream.WithHeaders(tracing.Headers(ctx)). A notification has none, so it needs an
// envelope: [Tracing.Value] wraps the value of an event into one, and [Codec] takes it out again. In the wire format it is
//
//	e7:{"pghub":"envelope","headers":{"pghub-origin":"…","traceparent":"00-…-…-01"},"value":{"price":3}}
//
// Readers without the codec see this object as the value. Payloads have at most 7,999 bytes, of which the envelope takes about 170.
// Readers with the codec understand events without an envelope too: give it to the readers first, and then begin to write.
//
// # Origin
//
// With an origin, [Tracing.SkipOwn] keeps from a handler what this process has published itself.
package pghubotel
