package gateway_test

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/gateway"
)

// patient has nobody cut off whose machine is busy.
func patient(cfg gateway.Config) gateway.Config {
	cfg.WriteTimeout, cfg.SlowTimeout, cfg.PingInterval = time.Hour, time.Hour, time.Hour
	return cfg
}

// A burst that is larger than MaxPending reaches all clients who read, whole and in order: a client is slow whose connection
// takes nothing, not one who has much to take.
func TestBurstReachesEverybody(t *testing.T) {
	f := newFixture(t, patient(gateway.Config{Topics: []string{"*"}, MaxPending: 256 << 10}))
	const clients, events = 60, 200
	formats := []string{"payload", "event"}
	all := f.clients(clients, func(i int) string { return "/listen/t?format=" + formats[i%2] })
	streams := []*stream{f.stream("topic=t", nil), f.stream("topic=t", nil)}
	var read atomic.Int64
	var wg sync.WaitGroup
	for i, s := range all {
		wg.Go(func() {
			buf := make([]byte, 16<<10)
			for n := 1; n <= events; {
				data, err := s.readText(buf)
				if err != nil {
					t.Errorf("client %d: after %d events: %v", i, n-1, err)
					return
				}
				if bytes.HasPrefix(data, []byte(`{"topic":null`)) && bytes.Contains(data, []byte("subscribe")) {
					continue
				}
				if key := []string{fmt.Sprintf("e%d:", n), fmt.Sprintf(`"key":[%d]`, n)}[i%2]; !bytes.Contains(data[:min(len(data), 80)], []byte(key)) {
					t.Errorf("client %d: event %d is %.80s", i, n, data)
					return
				}
				n++
				read.Add(1)
			}
		})
	}
	for _, s := range streams {
		wg.Go(func() {
			for n := 1; n <= events; {
				block := s.next()
				if strings.HasPrefix(block, "retry") || strings.Contains(block, "subscribe") {
					continue
				}
				if !strings.Contains(block, fmt.Sprintf(`"key":[%d]`, n)) {
					t.Errorf("event %d of a stream is %.80s", n, block)
					return
				}
				n++
				read.Add(1)
			}
		})
	}
	f.publish("t", 1, events) // in one transaction
	wg.Wait()
	require.EqualValues(t, (clients+len(streams))*events, read.Load())
	st := f.gw.Stats()
	require.Zero(t, st.Dropped)
	require.Zero(t, st.Closed["slow"])
	eventually(t, "nothing waits any more", func() bool { st := f.gw.Stats(); return st.Pending == 0 && st.Excess == 0 })
}

// All that waits beyond each client's own share is bounded, however many clients there are: then the oldest give way.
func TestBurstsOfAllTogetherAreBounded(t *testing.T) {
	const total = 4 << 20
	f := newFixture(t, patient(gateway.Config{Topics: []string{"*"}, MaxPending: 64 << 10, MaxPendingTotal: total}))
	var all []*rawSocket
	for range 5 { // who do not read
		all = append(all, f.dialRaw("/listen/t?format=event", 4096))
	}
	f.publish("t", 1, 600) // as much as all of them may keep together, and eight times what one may
	eventually(t, "events are dropped", func() bool { return f.gw.Stats().Dropped > 0 && f.hub.Stats().Received == 600 })
	require.LessOrEqual(t, f.gw.Stats().Excess, total)
	require.NotZero(t, f.gw.Stats().Excess)
	for _, s := range all {
		require.NoError(t, s.conn.Close())
	}
	f.requireNothingLeft()
	require.Zero(t, f.gw.Stats().Excess)
}

// The system takes little for a client that does not read: what waits, waits where it is counted.
func TestTheSystemKeepsLittle(t *testing.T) {
	f := newFixture(t, patient(gateway.Config{Topics: []string{"*"}}))
	f.dialRaw("/listen/t", 4096)
	s := f.stream("topic=u", nil) // reads nothing from here on
	require.Contains(t, s.next(), "retry")
	const events = 600 // 4 MB
	for i, topic := range []string{"t", "u"} {
		before := f.gw.Stats()
		f.publish(topic, 1, events)
		eventually(t, "it waits", func() bool {
			st := f.gw.Stats()
			return st.Received == uint64((i+1)*events) && st.Pending > before.Pending
		})
		require.Never(t, func() bool { return f.gw.Stats().Sent-before.Sent > events/2 }, 100*time.Millisecond, 10*time.Millisecond, topic)
	}
}
