// Package webhook is a sink that sends messages by HTTP: one message a request, or a batch.
//
//	sink, err := webhook.New(webhook.Config{URL: "https://example.com/hooks", Secrets: []string{"whsec_…"}})
//
// # What is sent
//
// A POST, or a PUT, of the message's body, with the headers of Standard Webhooks: webhook-id, which is the message's ID and the
// same whenever it is sent, webhook-timestamp, and webhook-signature, an HMAC-SHA256 of both and the body for each secret. [Verify]
// checks them. The headers of the message are headers of the request, and attributes of a CloudEvent in binary mode are those with
// ce- in front.
//
// With Batch set a request has all messages of a batch as a JSON array of their bodies, which must be JSON then: of CloudEvents, as
// application/cloudevents-batch+json. Its webhook-id is that of the first message and that of the last, with "_" in between.
//
// # What the answer means
//
// A 2xx has taken the message. 408, 425, 429, 5xx, a redirect and every error of the network are failures, and tried again in
// order; Retry-After is heeded. Any other 4xx refuses the message for good, unless Config.RetryStatus names it. If it refuses a
// batch of several, its messages are tried in smaller ones, until those are found that are refused.
//
// # Limits
//
// What was sent may come twice, with the same webhook-id: when an answer is lost, or the bridge has crashed before it stored its
// position. The receiver should keep the IDs that it has seen for a while. Messages go one after another, in their order, within a
// lane: Route.Lanes, or Batch, is for more.
//
// Redirects are not followed, since the signature and the headers would go somewhere else. A target that an event brings about can
// change the path and the query, but not the scheme and the host of Config.URL. Neither secrets, nor headers, nor the path of the
// URL are in any error.
package webhook
