package pghub

import (
	"context"
	"time"
)

// Middleware makes a handler of another one: it does something before and behind it, or calls it with a context of its own.
// That context has to descend from the one that it was given. A middleware sees every call of the handler, supervisory events
// too, on the consumer's goroutine, and passes on each event: what it keeps back is lost to the handler.
//
// A panic needs none: the hub recovers from it, counts it, and tells Config.OnError. Neither does a handler that is slow: the
// hub names it in the log.
type Middleware func(next Handler) Handler

// Timeout gives the handler a context that ends so long after each call has begun, with context.DeadlineExceeded. It does not
// end the handler: that has to heed its context, as queries do. Supervisory events have the same time. d must be positive.
func Timeout(d time.Duration) Middleware {
	return func(next Handler) Handler {
		return func(ctx context.Context, ev *Event) {
			ctx, cancel := context.WithTimeout(ctx, d)
			defer cancel()
			next(ctx, ev)
		}
	}
}

// wrap puts a handler into middleware, of which the first is outermost.
func wrap(handler Handler, middleware []Middleware) Handler {
	for i := len(middleware) - 1; i >= 0; i-- {
		handler = middleware[i](handler)
	}
	return handler
}
