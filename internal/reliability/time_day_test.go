package reliability

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/fakepg"
)

// TestTimeDay: a day in which the server is hurt every few minutes, with the default configuration. The oracle of the soak
// judges what the consumers lived through.
func TestTimeDay(t *testing.T) {
	scripted(t, func(t *testing.T, s *fakepg.Server) {
		rng := rand.New(rand.NewPCG(1, 1))
		day := &soak{epoch: time.Now(), topics: []string{"t", "u"}}
		hub, err := pghub.New(pghub.Config{ListenConfig: s.Config(), QueueSize: -1})
		require.NoError(t, err)
		var consumers []*soakConsumer
		for n := range 3 {
			c := &soakConsumer{soak: day, name: fmt.Sprint("consumer ", n), steady: true, before: true}
			cfg := &pghub.ConsumerConfig{Topics: day.topics}
			switch n {
			case 1:
				c.misbehave = panics(rand.New(rand.NewPCG(2, 1)))
			case 2: // always far behind, and at the end of the day some hours
				c.misbehave = func(ctx context.Context, _ *pghub.Event) { pause(ctx, 5*time.Second) }
				cfg.QueueSize = 50
			}
			consumer, err := hub.Consumer(context.Background(), c.handle, cfg)
			require.NoError(t, err)
			c.consumer = consumer
			consumers = append(consumers, c)
		}
		require.NoError(t, hub.Start(t.Context()))
		for _, c := range consumers {
			for _, topic := range day.topics {
				c.subscribed = append(c.subscribed, subscribed{topic: topic, from: 0, to: never})
			}
		}

		p := day.newPublisher()
		outages := 0
		for next := day.now(); day.now() < 24*time.Hour; {
			p.publish(s, rng)
			if day.now() >= next {
				hurtForAWhile(s, rng)
				outages++
				next = day.now() + time.Duration(rng.Int64N(int64(3*time.Minute)))
			}
			time.Sleep(time.Duration(1 + rng.Int64N(int64(8*time.Second))))
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Equal(t, pghub.StateListening, hub.State())
		p.publish(s, rng)
		require.NoError(t, stopWithin(t, hub, time.Hour))

		o := &oracle{ledgers: []ledger{p.ledger}}
		reference := newReference(consumers[0].witness())
		for _, c := range consumers {
			c.end(never)
			o.judge(c.witness())
			o.judgeBeside(c.witness(), reference)
		}
		require.Empty(t, o.report())
		stats := hub.Stats()
		t.Logf("%d outages, %d reconnections, %d events, %d received", outages, stats.Reconnects, len(p.ledger), stats.Received)
		require.Greater(t, outages, 500)
		require.Greater(t, stats.Reconnects, uint64(outages/2))
	})
}

// publish enters an event into the ledger and publishes it, in no time.
func (p *soakPublisher) publish(s *fakepg.Server, rng *rand.Rand) {
	first, topics, payloads := p.begin(1, rng)
	s.Notify(topics[0], payloads[0])
	p.end(first, committed)
}

// hurtForAWhile hurts the server in one way, and heals it a little later.
func hurtForAWhile(s *fakepg.Server, rng *rand.Rand) {
	heal := func() {}
	switch rng.IntN(7) {
	case 0:
		s.Kill()
	case 1:
		s.Terminate()
	case 2:
		s.Freeze(true)
		heal = func() { s.Freeze(false) }
	case 3:
		s.RefuseDials(errors.New("refused"))
		s.Kill()
		heal = func() { s.RefuseDials(nil) }
	case 4:
		s.HangDials(true)
		s.Kill()
		heal = func() { s.HangDials(false) }
	case 5:
		s.FailStartup(&pgproto3.ErrorResponse{Code: "57P03", Message: "the database system is starting up"})
		s.Terminate()
		heal = func() { s.FailStartup(nil) }
	case 6:
		s.SetStandby(true)
		s.Kill()
		heal = func() { s.SetStandby(false) }
	}
	time.AfterFunc(time.Duration(1+rng.Int64N(int64(time.Minute))), heal)
}
