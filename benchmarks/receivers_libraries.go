package main

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/lib/pq"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/pghub/pghub"
)

// pqReceiver is lib/pq's Listener and a loop over its channel.
type pqReceiver struct {
	listener *pq.Listener
	n        int
}

func newPqReceiver(_ context.Context, dsn string, topics []string, n int) (receiver, error) {
	listener := pq.NewListener(dsn, time.Second, time.Second, nil)
	for _, topic := range topics {
		if err := listener.Listen(topic); err != nil {
			_ = listener.Close()
			return nil, err
		}
	}
	return &pqReceiver{listener, n}, nil
}

func (p *pqReceiver) receive(ctx context.Context) (win window, err error) {
	for i := range p.n {
		select {
		case <-p.listener.NotificationChannel():
		case <-ctx.Done():
			return win, ctx.Err()
		}
		if i == 0 {
			win.first = time.Now()
		}
	}
	win.last = time.Now()
	return win, nil
}

func (p *pqReceiver) close() { _ = p.listener.Close() }

// riverReceiver is the listener of river's driver, in a loop like that of river's notifier, which is internal to river:
// one goroutine waits with a cancellable context and hands over through a channel of 1,000, another one calls the
// function of the subscription. Where the channel is full the notifier drops.
type riverReceiver struct {
	pool     *pgxpool.Pool
	listener riverdriver.Listener
	n        int
}

const riverBuffer = 1000

func newRiverReceiver(ctx context.Context, dsn string, topics []string, n int) (receiver, error) {
	pool, err := pgxpool.New(ctx, dsn)
	if err != nil {
		return nil, err
	}
	listener := riverpgxv5.New(pool).GetListener(&riverdriver.GetListenenerParams{Schema: ""})
	r := &riverReceiver{pool, listener, n}
	if err := listener.Connect(ctx); err != nil {
		r.close()
		return nil, err
	}
	prefix := len(listener.Schema()) + len(".") // the driver puts the schema in front of every topic
	for _, topic := range topics {
		if err := listener.Listen(ctx, topic[prefix:]); err != nil {
			r.close()
			return nil, err
		}
	}
	return r, nil
}

func (r *riverReceiver) receive(ctx context.Context) (win window, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	buffer := make(chan *riverdriver.Notification, riverBuffer)
	failed := make(chan error, 1)
	dropped := 0 // owned by the goroutine until buffer is closed
	go func() {
		defer close(buffer)
		for range r.n {
			notification, err := r.listener.WaitForNotification(ctx)
			if err != nil {
				failed <- err
				return
			}
			select {
			case buffer <- notification:
			default:
				dropped++
			}
		}
	}()
	for range buffer {
		if win.first.IsZero() {
			win.first = time.Now()
		}
	}
	win.last, win.lost = time.Now(), dropped
	select {
	case err := <-failed:
		return win, err
	default:
		return win, nil
	}
}

func (r *riverReceiver) close() {
	_ = r.listener.Close(context.Background())
	r.pool.Close()
}

// hubReceiver is this library: a hub with one consumer, whose handler counts.
type hubReceiver struct {
	pool *pgxpool.Pool
	hub  *pghub.Hub
	want int
	done chan struct{}

	seen int // owned by the handler, and win until done is closed
	win  window
}

func newHubReceiver(ctx context.Context, dsn string, topics []string, n int) (receiver, error) {
	pool, err := pgxpool.New(ctx, dsn)
	if err != nil {
		return nil, err
	}
	r := &hubReceiver{pool: pool, want: n, done: make(chan struct{})}
	if r.hub, err = pghub.New(pghub.Config{Pool: pool}); err != nil {
		pool.Close()
		return nil, err
	}
	if err := r.hub.Start(ctx); err != nil {
		pool.Close()
		return nil, err
	}
	if _, err := r.hub.Consumer(ctx, r.handle, &pghub.ConsumerConfig{Topics: topics}); err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

func (r *hubReceiver) handle(_ context.Context, ev *pghub.Event) {
	if ev.Advisory != nil {
		r.win.lost += int(ev.Advisory.Dropped)
	} else {
		r.seen++
		if r.seen == 1 {
			r.win.first = time.Now()
		}
	}
	if r.seen > 0 && r.seen+r.win.lost == r.want {
		r.win.last = time.Now()
		close(r.done)
	}
}

func (r *hubReceiver) receive(ctx context.Context) (window, error) {
	select {
	case <-r.done:
		return r.win, nil
	case <-ctx.Done():
		return window{}, ctx.Err()
	}
}

func (r *hubReceiver) close() {
	_ = r.hub.Stop(context.Background())
	r.pool.Close()
}
