package reliability

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/pgtest"
)

// bothHosts returns a DSN that names two servers and asks for the primary.
func bothHosts(t *testing.T, first, second *pgtest.Server) string {
	t.Helper()
	a, b := listenTo(t, first.DSN()), listenTo(t, second.DSN())
	return fmt.Sprintf("postgres://postgres:postgres@%s:%d,%s:%d/postgres?sslmode=disable&target_session_attrs=read-write", a.Host, a.Port, b.Host, b.Port)
}

// standbyOf returns a standby that is closed at the end of the test.
func standbyOf(t *testing.T, primary *pgtest.Server) *pgtest.Server {
	t.Helper()
	standby, err := primary.Standby(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, standby.Close()) })
	return standby
}

// TestFaultStandbyAtStart: a standby is refused with advice; with several hosts the primary is found, in whatever order
// they stand.
func TestFaultStandbyAtStart(t *testing.T) {
	primary := pgtest.Private(t, pgtest.Options{})
	standby := standbyOf(t, primary)

	hub, _ := newFaultHub(t, pghub.Config{ListenConfig: listenTo(t, standby.DSN())}, "t")
	err := hub.Start(t.Context())
	require.ErrorIs(t, err, pghub.ErrStandby)
	require.ErrorContains(t, err, "target_session_attrs=read-write")

	for _, dsn := range []string{bothHosts(t, primary, standby), bothHosts(t, standby, primary)} {
		hub, d := startFaultHub(t, pghub.Config{Pool: pgtest.Pool(t, dsn)}, "t")
		require.NoError(t, hub.Notify(t.Context(), "t", nil, nil))
		d.expect(t, "connect", "subscribe t", "t=e")
	}

	// Promoted, the standby is as good as any other server.
	tr := newTrouble()
	hub, d := newFaultHub(t, pghub.Config{Pool: pgtest.Pool(t, standby.DSN()), OnError: tr.note}, "t")
	ran := make(chan error, 1)
	go func() { ran <- hub.Run(t.Context()) }()
	tr.await(t, 2, hasCode("")) // refused again and again
	require.NoError(t, standby.Promote(t.Context()))
	d.expect(t, "connect", "subscribe t")
	require.NoError(t, hub.Notify(t.Context(), "t", nil, nil))
	d.expect(t, "t=e")
	require.NoError(t, hub.Stop(t.Context()))
	require.NoError(t, <-ran)
}

// TestFaultStandbyPromotion: the primary dies under load and the standby is promoted. The hub moves over by itself, and the
// oracle finds nothing wrong with what its consumer lived through.
func TestFaultStandbyPromotion(t *testing.T) {
	primary := pgtest.Private(t, pgtest.Options{})
	standby := standbyOf(t, primary)
	s := &soak{epoch: time.Now(), topics: []string{"t"}}
	c := &soakConsumer{soak: s, name: "consumer", steady: true, before: true}
	hub, err := pghub.New(quickly(pghub.Config{Pool: pgtest.Pool(t, bothHosts(t, primary, standby)), QueueSize: -1}))
	require.NoError(t, err)
	_, err = hub.Consumer(context.Background(), c.handle, &pghub.ConsumerConfig{Topics: s.topics})
	require.NoError(t, err)
	require.NoError(t, hub.Start(t.Context()))
	c.subscribed = []subscribed{{topic: "t", from: s.now(), to: never}}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range 4 {
		p := s.newPublisher()
		go p.notify(ctx, t, hub)
	}
	s.awaitNext(t, c)
	require.NoError(t, primary.Kill())
	require.NoError(t, standby.Promote(t.Context()))
	s.awaitNext(t, c)
	cancel()
	for _, p := range s.publishers {
		<-p.done
	}
	c.end(s.now())
	limit, done := context.WithTimeout(t.Context(), faultPatience)
	defer done()
	require.NoError(t, hub.Stop(limit))

	o := &oracle{}
	for _, p := range s.publishers {
		o.ledgers = append(o.ledgers, p.ledger)
	}
	o.judge(c.witness())
	require.Empty(t, o.report())
	require.NotZero(t, hub.Stats().Reconnects)
}

// awaitNext waits until a consumer has received an event of source 0 that was begun after the call.
func (s *soak) awaitNext(t *testing.T, c *soakConsumer) {
	t.Helper()
	c.beyond(s.publishers[0].begun())
	select {
	case <-c.reached:
	case <-time.After(soakComesBack):
		t.Fatal("no event has come")
	}
}
