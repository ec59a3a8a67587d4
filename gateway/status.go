package gateway

import (
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/pghub/pghub"
)

// counters are what a gateway has done since New.
type counters struct {
	accepted  atomic.Uint64 // clients
	sent      atomic.Uint64 // messages written to clients
	published atomic.Uint64
	slow      atomic.Uint64 // clients closed, by reason
	flood     atomic.Uint64
	silent    atomic.Uint64
	stuck     atomic.Uint64
	expired   atomic.Uint64
	replays   atomic.Int64  // under way
	replayed  atomic.Uint64 // events

	mu      sync.Mutex
	refused map[string]uint64 // by name of the problem
}

func newCounters() *counters { return &counters{refused: make(map[string]uint64)} }

func (c *counters) refusedOne(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refused[name]++
}

// Stats are the figures of a [Gateway], since New where they count something. None tells of topics or of the database.
type Stats struct {
	State      string            `json:"state"` // of the hub
	Listening  bool              `json:"listening"`
	WebSockets int               `json:"websockets"` // connected now
	Streams    int               `json:"streams"`    // Server-Sent Events, connected now
	Topics     int               `json:"topics"`     // of these clients
	Accepted   uint64            `json:"accepted"`   // clients
	Received   uint64            `json:"received"`   // notifications from the database, by the hub
	Reconnects uint64            `json:"reconnects"` // of the hub
	Sent       uint64            `json:"sent"`       // messages to clients
	Pending    int               `json:"pending"`    // messages waiting for clients
	Excess     int               `json:"excess"`     // bytes that wait beyond Config.MaxPending, of all clients together
	Dropped    uint64            `json:"dropped"`    // events, announced by lag advisories or followed by CodeSlow
	Published  uint64            `json:"published"`  // events by POST /notify
	Replays    int64             `json:"replays"`    // under way; a client may have several
	Replayed   uint64            `json:"replayed"`   // events that clients got from the past
	Closed     map[string]uint64 `json:"closed"`     // clients: slow, flood, silent (no answer to a ping), stuck (took nothing for Config.WriteTimeout), expired
	Refused    map[string]uint64 `json:"refused"`    // requests and operations, by name of the error
}

// Stats returns the gateway's figures; it looks at every client.
func (g *Gateway) Stats() Stats {
	hub := g.hub.Stats()
	st := Stats{
		State:      hub.State.String(),
		Listening:  hub.State == pghub.StateListening,
		Accepted:   g.counters.accepted.Load(),
		Received:   hub.Received,
		Reconnects: hub.Reconnects,
		Sent:       g.counters.sent.Load(),
		Excess:     g.ledger.total(),
		Published:  g.counters.published.Load(),
		Replays:    g.counters.replays.Load(),
		Replayed:   g.counters.replayed.Load(),
		Closed: map[string]uint64{
			"slow": g.counters.slow.Load(), "flood": g.counters.flood.Load(), "silent": g.counters.silent.Load(),
			"stuck": g.counters.stuck.Load(), "expired": g.counters.expired.Load(),
		},
		Refused: make(map[string]uint64),
	}
	st.WebSockets, st.Streams, st.Topics = g.admission.count()
	st.Pending, st.Dropped = g.admission.queued()
	g.counters.mu.Lock()
	defer g.counters.mu.Unlock()
	for name, n := range g.counters.refused {
		st.Refused[name] = n
	}
	return st
}

// serveHealth says that the process serves requests.
func (g *Gateway) serveHealth(w http.ResponseWriter, _ *http.Request) {
	answerJSON(w, http.StatusOK, map[string]string{"status": "ok"})
}

// serveReady says whether events arrive.
func (g *Gateway) serveReady(w http.ResponseWriter, _ *http.Request) {
	state := g.hub.State()
	status, name := http.StatusOK, state.String()
	if state != pghub.StateListening {
		status = http.StatusServiceUnavailable
	}
	if g.admission.isClosed() {
		status, name = http.StatusServiceUnavailable, "stopping"
	}
	answerJSON(w, status, map[string]string{"status": name})
}

func (g *Gateway) serveStats(w http.ResponseWriter, r *http.Request) {
	if err := g.authorize(r, Access{Action: ActionInspect}); err != nil {
		g.refuse(w, r, err)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	answerJSON(w, http.StatusOK, g.Stats())
}
