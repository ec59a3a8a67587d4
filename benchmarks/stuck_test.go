package main

import (
	"context"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestCrowdTrials(t *testing.T) {
	for name, way := range map[string]fanOut{"hub": fanOutHub, "goroutines": fanOutGoroutines} {
		t.Run(name, func(t *testing.T) {
			for _, trial := range []func() (sample, error){
				func() (sample, error) { return beginTrial(t.Context(), way, 20) },
				func() (sample, error) { return stuckTrial(t.Context(), way, 20, 10) },
				func() (sample, error) {
					return releasedTrial(t.Context(), way, 20, func(c *crowd) time.Duration { return c.latest })
				},
				func() (sample, error) {
					return releasedTrial(t.Context(), way, 20, func(c *crowd) time.Duration { return c.conn.longest() })
				},
				func() (sample, error) { return slowTrial(t.Context(), way, 20) },
			} {
				s, err := trial()
				require.NoError(t, err)
				require.Positive(t, s.value)
			}
		})
	}
}

// A crowd is stuck when all of its handlers are, and the quick consumer is not.
func TestCrowdIsStuckUntilReleased(t *testing.T) {
	for name, way := range map[string]fanOut{"hub": fanOutHub, "goroutines": fanOutGoroutines} {
		t.Run(name, func(t *testing.T) {
			c, err := newStuckCrowd(t.Context(), way, 20, 1)
			require.NoError(t, err)
			defer c.close()
			require.EqualValues(t, 20, c.begun.Load())
			c.sendQuick(notifications(fanOutTopic, 1))
			require.NoError(t, c.waitForQuick(t.Context()))
			require.EqualValues(t, 2, c.late.total)
			require.Zero(t, c.done.Load())
			c.release()
			require.NoError(t, c.waitForCrowd(t.Context(), &c.done))
			require.EqualValues(t, 20, c.begun.Load()) // one event each
		})
	}
}

func TestCrowdTrialsEndWithTheirContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c, err := newStuckCrowd(ctx, fanOutHub, 2, 0)
	require.NoError(t, err)
	defer c.close()
	cancel()
	require.ErrorIs(t, c.waitForCrowd(ctx, &c.done), context.Canceled)
}

func TestReaderIsAwayBetweenItsReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		var server sync.WaitGroup
		defer server.Wait()
		defer ours.Close()
		defer theirs.Close()
		server.Go(func() {
			for {
				if _, err := theirs.Write([]byte{1}); err != nil {
					return
				}
				time.Sleep(time.Hour) // does not count: there is nothing to read
			}
		})
		conn := &awayConn{Conn: ours}
		d := awayDialer{last: conn}
		buf := make([]byte, 1)
		read := func() {
			_, err := conn.Read(buf)
			require.NoError(t, err)
		}
		read()
		require.Zero(t, d.longest())
		for _, away := range []time.Duration{time.Second, 3 * time.Second, 2 * time.Second} {
			time.Sleep(away)
			read()
		}
		require.Equal(t, 3*time.Second, d.longest())
		read()
		require.Zero(t, d.longest())
	})
}
