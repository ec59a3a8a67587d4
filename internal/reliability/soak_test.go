package reliability

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/pgtest"
)

// The soak's flags:
//
//	go test -run TestSoak$ -v . -soak.seed 7 -soak.duration 10m
var (
	soakSeed     = flag.Uint64("soak.seed", 0, "seed of the soak; 0: a new one, which is printed")
	soakDuration = flag.Duration("soak.duration", 45*time.Second, "how long the soak makes faults; 5s with -short")
	soakFaults   = flag.Int("soak.faults", 200, "the soak goes on until it has made so many faults; 20 with -short")
	soakRate     = flag.Int("soak.rate", 2000, "events a second of the soak's main publisher")
	soakHubs     = flag.Int("soak.hubs", 3, "hubs of the soak")
)

const (
	soakComesBack = time.Minute // to listen again once nothing is in the way; on a machine with much else to do
	soakStops     = time.Minute
)

// soak is one run. Ledgers and streams are read when all that writes them has ended.
type soak struct {
	epoch      time.Time
	server     *pgtest.Server
	topics     []string // that the steady consumers have
	rare       []string // that only those have who come and go: nobody else keeps the server listening to them
	hubs       []*soakHub
	publishers []*soakPublisher // by source
}

// dsn names the server, to be connected to with TLS ("require") or without ("disable").
func (s *soak) dsn(sslmode string) string {
	return strings.Replace(s.server.DSN(), "sslmode=prefer", "sslmode="+sslmode, 1)
}

// all returns all topics.
func (s *soak) all() []string { return append(slices.Clone(s.topics), s.rare...) }

// now is the time since the epoch.
func (s *soak) now() time.Duration { return time.Since(s.epoch) }

// sinceEpoch is a time of the hub's on the same clock, monotonic as both are.
func (s *soak) sinceEpoch(t time.Time) time.Duration { return t.Sub(s.epoch) }

// TestSoak hurts hubs with all that a network and a server can do to them, and then holds what each consumer lived through
// against the ledgers of what was published.
func TestSoak(t *testing.T) {
	pgtest.CheckLeaks(t)
	seed, duration, faults := soakOptions()
	t.Logf("seed %d: go test -run 'TestSoak$' -v . -soak.seed %d -soak.duration %v", seed, seed, duration)
	rng := rand.New(rand.NewPCG(seed, 1))

	s := &soak{epoch: time.Now(), server: pgtest.Private(t, pgtest.Options{TLS: newAuthority(t).serverTLS(t)})}
	for i := range 6 {
		s.topics = append(s.topics, fmt.Sprintf(`Soak "%d" – été`, i))
	}
	for i := range 3 {
		s.rare = append(s.rare, fmt.Sprint("rare ", i))
	}
	for i := range *soakHubs {
		s.hubs = append(s.hubs, s.newHub(t, i, rng))
	}
	for _, h := range s.hubs {
		require.NoError(t, h.start(t.Context()))
	}
	publishing, stopPublishing := context.WithCancel(t.Context())
	defer stopPublishing()
	s.publish(publishing, t)

	chaos := newChaos(s, rng)
	chaos.run(t, duration, faults)

	healed := s.now()
	s.awaitReturn(t)
	t.Logf("all hubs came back within %v", s.now()-healed)
	stopPublishing()
	for _, p := range s.publishers {
		<-p.done
	}
	for _, h := range s.hubs {
		h.stop(t)
	}
	s.judge(t, chaos)
}

// soakOptions returns what the flags say.
func soakOptions() (seed uint64, duration time.Duration, faults int) {
	seed, duration, faults = *soakSeed, *soakDuration, *soakFaults
	for seed == 0 {
		seed = rand.Uint64() >> 32 // short enough to be copied by hand
	}
	set := map[string]bool{}
	flag.Visit(func(f *flag.Flag) { set[f.Name] = true })
	if testing.Short() && !set["soak.duration"] {
		duration = 5 * time.Second
	}
	if testing.Short() && !set["soak.faults"] {
		faults = 20
	}
	return seed, duration, faults
}

// awaitReturn waits until every hub has received an event that was begun after the call.
func (s *soak) awaitReturn(t *testing.T) {
	main := s.publishers[0]
	after := main.begun()
	deadline := time.NewTimer(soakComesBack)
	defer deadline.Stop()
	for _, h := range s.hubs {
		h.watched.beyond(after)
	}
	for _, h := range s.hubs {
		select {
		case <-h.watched.reached:
		case <-deadline.C:
			t.Fatalf("%s has not come back: %+v", h.name, h.hub.Stats())
		}
	}
}

// judge asks the oracle, and prints the figures.
func (s *soak) judge(t *testing.T, chaos *chaos) {
	o := &oracle{}
	for _, p := range s.publishers {
		o.ledgers = append(o.ledgers, p.ledger)
	}
	var figures soakFigures
	for _, h := range s.hubs {
		reference := newReference(h.consumers[0].witness())
		for _, c := range h.consumers {
			w := c.witness()
			o.judge(w)
			if c.overlapped.Load() {
				o.violation(w, "its handler was called while it ran")
			}
			switch {
			case c == h.consumers[0]:
			case c.steady:
				o.judgeBeside(w, reference)
			default:
				o.judgeRuns(w, reference)
			}
			figures.add(w)
		}
		o.judgeVisitors(h, reference)
		figures.visitors += len(h.visitors)
		figures.addHub(reference.witness, h.hub.Stats())
	}
	t.Logf("%d faults: %s", chaos.total(), chaos)
	t.Logf("published: %s", s.published())
	t.Log(figures.String())
	for _, v := range o.report() {
		t.Error(v)
	}
	require.NotZero(t, figures.reconnects)
	require.NotZero(t, figures.lags, "no queue overflowed: the soak is too gentle")
}

func (s *soak) published() string {
	counts := map[fate]int{}
	for _, p := range s.publishers {
		for _, sending := range p.ledger {
			counts[sending.fate]++
		}
	}
	return fmt.Sprintf("%d events committed, %d not sent, %d of unknown fate", counts[committed], counts[unsent], counts[unknown])
}

// soakFigures are the numbers of a run.
type soakFigures struct {
	deliveries, lags, dropped, gaps, resyncs, visitors int
	reconnects                                         uint64
	silence, outage                                    time.Duration // longest
	received                                           []string
}

func (f *soakFigures) add(w *witness) {
	for _, l := range w.stream {
		switch l.what {
		case wasEvent:
			f.deliveries++
		case pghub.ActionLag:
			f.lags++
			f.dropped += int(l.dropped)
		case pghub.ActionReconnect:
			f.gaps++
		case wasResync:
			f.resyncs++
		}
	}
}

// addHub takes the figures of a hub: the longest time from the last sign of life to the notice of its loss, and to the
// reconnection.
func (f *soakFigures) addHub(reference *witness, stats pghub.Stats) {
	f.reconnects += stats.Reconnects
	f.received = append(f.received, fmt.Sprint(stats.Received))
	for _, l := range reference.stream {
		switch l.what {
		case pghub.ActionDisconnect:
			f.silence = max(f.silence, l.at-l.since)
		case pghub.ActionReconnect:
			f.outage = max(f.outage, l.until-l.since)
		}
	}
}

func (f *soakFigures) String() string {
	return fmt.Sprintf("received by the hubs: %s; %d deliveries; %d reconnections, announced as %d gaps; %d lags of %d events; %d resyncs; %d visitors; "+
		"worst silence until noticed %v, worst outage %v",
		strings.Join(f.received, ", "), f.deliveries, f.reconnects, f.gaps, f.lags, f.dropped, f.resyncs, f.visitors,
		f.silence.Round(time.Millisecond), f.outage.Round(time.Millisecond))
}

// describe prints counts, sorted by name.
func describe(counts map[string]int) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%s %d", name, counts[name]))
	}
	return strings.Join(parts, ", ")
}
