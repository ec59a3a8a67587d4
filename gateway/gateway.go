package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/pghub/pghub"
)

// Gateway is an [http.Handler] that serves the events of a hub. It uses the hub and does not own it: whoever made the
// hub starts and stops it.
type Gateway struct {
	hub       *pghub.Hub
	cfg       Config
	encoder   *encoder
	admission *admission
	ledger    *ledger
	counters  *counters
	past      *past    // nil: nothing can be had again
	known     []string // topics that patterns of clients stand for
	handler   http.Handler
}

// New returns a gateway to a hub, which may or may not have been started. The error says what is wrong with the
// configuration.
//
// To mount it under a prefix use [http.StripPrefix]. It needs no timeouts of the [http.Server] but ReadHeaderTimeout: it
// sets its own, and overrides WriteTimeout and ReadTimeout for streams. Set the server's ConnContext to [ConnContext].
func New(hub *pghub.Hub, cfg Config) (*Gateway, error) {
	if hub == nil {
		return nil, errors.New("gateway: the hub is nil")
	}
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if cfg.Notify == nil {
		cfg.Notify = hub.Notify
	}
	g := &Gateway{hub: hub, cfg: cfg, encoder: &encoder{Codec: cfg.Codec}, counters: newCounters()}
	g.admission, g.ledger = newAdmission(&g.cfg), newLedger(g.cfg.MaxPendingTotal)
	g.past = newPast(g)
	g.encoder.past = g.past
	g.known = g.cfg.knownTopics()
	g.handler = g.accessLogged(g.panicsLogged(g.bounded(g.guard(g.routes()))))
	return g, nil
}

func (g *Gateway) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /listen/{topic}", g.serveListen)
	mux.HandleFunc("GET /subscribe/{topic}", g.serveListen)
	mux.HandleFunc("GET /ws", g.serveWebSocket)
	mux.HandleFunc("GET /events", g.serveEvents)
	for _, path := range []string{"/listen/{topic}", "/subscribe/{topic}", "/ws", "/events"} {
		mux.HandleFunc("HEAD "+path, g.refuseHead) // GET would take it, and have a client that nothing can be written to
	}
	if len(g.cfg.Publish) > 0 {
		mux.HandleFunc("POST /notify/{topic}", g.serveNotify)
	}
	mux.Handle("GET /client.js", clientPage)
	mux.HandleFunc("GET /healthz", g.serveHealth)
	mux.HandleFunc("GET /readyz", g.serveReady)
	mux.HandleFunc("GET /stats", g.serveStats)
	mux.Handle("GET /metrics", g.metricsHandler())
	if !g.cfg.NoViewer {
		g.viewerRoutes(mux)
	}
	return mux
}

// ServeHTTP serves the routes that README.md lists.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) { g.handler.ServeHTTP(w, r) }

// Shutdown ends the gateway: new clients are refused, and those that are connected get what is queued for them, a close
// advisory and the code [CodeGoingAway]. It returns when all have gone; if ctx ends first the rest is cut off, and the
// error says so. Begin [http.Server.Shutdown] before it, in a goroutine: it stops listening, so that clients, who come back at
// once, find the next process, and then waits for event streams, which end here; it knows nothing of WebSockets. Stop the hub
// after both.
func (g *Gateway) Shutdown(ctx context.Context) error {
	for _, c := range g.admission.close() {
		c.drain()
	}
	if g.past != nil {
		defer g.past.close()
	}
	select {
	case <-g.admission.empty:
		return nil
	case <-ctx.Done():
	}
	left := g.admission.all()
	for _, c := range left {
		c.cut()
	}
	return fmt.Errorf("gateway: shutdown: %d clients were cut off: %w", len(left), ctx.Err())
}
