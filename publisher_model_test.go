package pghub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// Many callers, contexts that end at any moment, statements that fail: everybody gets an answer in time, and it is true.
func TestPublisherModel(t *testing.T) {
	for seed := range uint64(300) {
		synctest.Test(t, func(t *testing.T) { runPublisherModel(t, seed) })
	}
}

func runPublisherModel(t *testing.T, seed uint64) {
	defer func() {
		if t.Failed() {
			t.Log("seed", seed)
		}
	}()
	const callers, calls = 12, 12
	var mu sync.Mutex // of all that follows
	rnd := rand.New(rand.NewPCG(seed, 0))
	random := func(n int) time.Duration {
		mu.Lock()
		defer mu.Unlock()
		return time.Duration(rnd.IntN(n)) * time.Millisecond
	}
	committed := make(map[string]int)
	underWay := 0
	cut, cancel := context.WithCancel(context.Background())
	defer cancel()
	p := publisherOf(cut, &publishFuncs{mayAcquire: func() error {
		mu.Lock()
		defer mu.Unlock()
		if rnd.IntN(12) == 0 {
			return io.EOF
		}
		return nil
	}, send: func(ctx context.Context, topics, payloads []string) error {
		mu.Lock()
		underWay++
		if underWay > 1 {
			t.Error("two statements at a time")
		}
		distinct := make(map[notification]bool)
		for i, payload := range payloads {
			distinct[notification{topics[i], payload}] = true
		}
		if len(distinct) != len(payloads) {
			t.Errorf("the server would fold %q", payloads)
		}
		fate := 1 + rnd.IntN(11)
		mu.Unlock()
		if fate > 3 { // takes its time
			select {
			case <-time.After(random(20)):
			case <-ctx.Done():
			}
		}
		mu.Lock()
		defer mu.Unlock()
		underWay--
		switch fate {
		case 1:
			return publishRefusal("42501")
		case 2:
			for _, payload := range payloads {
				if len(payloads) > 1 || strings.Contains(payload, `"3`) {
					return publishRefusal("22023")
				}
			}
		case 3:
			return io.ErrUnexpectedEOF
		}
		if err := ctx.Err(); err != nil && fate%2 == 0 {
			return err
		}
		for _, payload := range payloads {
			committed[strings.TrimSpace(payload)]++
		}
		return nil
	}})

	var waits sync.WaitGroup
	yes, no := make(map[string]int), make(map[string]int) // answers; the rest is unknown
	asked := make(map[string]int)
	for caller := range callers {
		waits.Go(func() {
			for i := range calls {
				ctx, stop := context.WithTimeout(context.Background(), random(40))
				if caller%4 == 0 {
					stop()
					ctx, stop = context.Background(), func() {}
				}
				payload := fmt.Sprintf(`e:"%d %d"`, caller, i)
				pad := padKeyValue
				if caller%3 == 0 {
					payload = fmt.Sprintf(`e:"same %d"`, i%2)
				}
				if caller%6 == 0 {
					pad = nil
				}
				err := p.publish(ctx, notification{"a", payload}, pad)
				mu.Lock()
				asked[payload]++
				switch {
				case err == nil:
					yes[payload]++
				case !errors.Is(err, ErrUnknownOutcome):
					no[payload]++
				}
				mu.Unlock()
				if deadline, limited := ctx.Deadline(); limited && time.Now().After(deadline) {
					t.Errorf("the answer came %v after the context had ended", time.Since(deadline))
				}
				stop()
			}
		})
	}
	waits.Wait()
	p.close(context.Background()) // waits for batches whose leader has left
	require.Empty(t, p.waiting)
	require.False(t, p.busy)
	mu.Lock()
	defer mu.Unlock()
	for payload, n := range asked {
		require.GreaterOrEqual(t, committed[payload], yes[payload], "%s was said to be committed", payload)
		require.LessOrEqual(t, committed[payload], n-no[payload], "%s was said not to be sent", payload)
	}
}
