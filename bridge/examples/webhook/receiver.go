package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"

	"github.com/pghub/pghub/bridge/webhook"
)

// receiver takes orders. It fails at every seventh request, and refuses order 13.
type receiver struct {
	mu       sync.Mutex
	requests int
	seen     map[string]bool // IDs; a real one forgets them after a while
	last     int64
	arrived  chan struct{} // one for each new order
}

func newReceiver() *receiver {
	return &receiver{seen: make(map[string]bool), arrived: make(chan struct{}, orders)}
}

func (in *receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	if err != nil {
		return
	}
	id, err := webhook.Verify(r.Header, body, 0, secret)
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.requests++
	if in.requests%7 == 0 {
		http.Error(w, "come again", http.StatusServiceUnavailable)
		return
	}
	if in.seen[id] {
		return // it came before, and the answer was lost
	}
	if err := in.take(body); err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	in.seen[id] = true
	in.arrived <- struct{}{}
}

// take does what there is to do with an order.
func (in *receiver) take(body []byte) error {
	var event struct {
		Data struct {
			Row struct{ ID int64 }
		}
	}
	if err := json.Unmarshal(body, &event); err != nil {
		return err
	}
	switch id := event.Data.Row.ID; {
	case id == 13:
		return fmt.Errorf("we do not deliver order %d", id)
	case id <= in.last:
		return fmt.Errorf("order %d came behind %d", id, in.last)
	default:
		in.last = id
	}
	return nil
}

// await returns when so many orders have arrived.
func (in *receiver) await(ctx context.Context, n int) error {
	for range n {
		select {
		case <-in.arrived:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
