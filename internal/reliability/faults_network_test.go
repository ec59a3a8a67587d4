package reliability

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/faultproxy"
	"github.com/pghub/pghub/internal/pgtest"
)

// TestFaultNetworkLoss: whatever ends the connection, the loss is announced, the hub comes back, and what is committed
// after the reconnect advisory arrives.
func TestFaultNetworkLoss(t *testing.T) {
	dsn := pgtest.Database(t)
	direct := pgtest.Pool(t, dsn)
	for _, test := range []struct {
		name  string
		hurt  func(p *faultproxy.Proxy)
		probe bool // nothing but the probe can notice it
	}{
		{"reset", func(p *faultproxy.Proxy) { p.Reset() }, false},
		{"closed", func(p *faultproxy.Proxy) {
			for _, c := range p.Conns() {
				c.Close()
			}
		}, false},
		{"half-closed by the server", func(p *faultproxy.Proxy) { p.HalfClose(faultproxy.ToClient) }, false},
		{"half-closed to the server", func(p *faultproxy.Proxy) { p.HalfClose(faultproxy.ToServer) }, false},
		{"blackhole", func(p *faultproxy.Proxy) { swallow(p, faultproxy.ToServer, faultproxy.ToClient) }, true},
		{"blackhole to the server", func(p *faultproxy.Proxy) { swallow(p, faultproxy.ToServer) }, true},
		{"blackhole to the client", func(p *faultproxy.Proxy) { swallow(p, faultproxy.ToClient) }, true},
		{"stalled for good", func(p *faultproxy.Proxy) {
			for _, c := range p.Conns() {
				c.Set(faultproxy.Fault{Stall: true})
			}
		}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			pgtest.CheckLeaks(t)
			proxy, through := faultProxy(t, dsn)
			hub, d := startFaultHub(t, pghub.Config{
				Pool: direct, ListenConfig: listenTo(t, through), ProbeInterval: 100 * time.Millisecond, ProbeTimeout: 2 * time.Second,
			}, "t")
			require.NoError(t, hub.Notify(t.Context(), "t", nil, "before"))
			d.expect(t, "connect", "subscribe t", `t=e:"before"`)
			test.hurt(proxy)
			lost := d.await(t, "disconnect").Advisory
			require.Error(t, lost.Err)
			if test.probe {
				require.ErrorIs(t, lost.Err, pghub.ErrProbe)
			}
			// The probe may be quick on a loaded machine: not only one loss is allowed.
			back := d.await(t, "reconnect").Advisory
			require.Error(t, back.Gap.Err)
			require.False(t, back.Gap.Until.Before(back.Gap.Since))
			publishUntil(t, d, direct, "t")
		})
	}
}

// swallow makes the present connections lose what they carry in some directions, for ever.
func swallow(p *faultproxy.Proxy, to ...faultproxy.Direction) {
	for _, c := range p.Conns() {
		for _, d := range to {
			c.SetDirection(d, faultproxy.Fault{Blackhole: true})
		}
	}
}

// TestFaultNetworkTrouble: what loses no byte loses no event and no connection.
func TestFaultNetworkTrouble(t *testing.T) {
	dsn := pgtest.Database(t)
	direct := pgtest.Pool(t, dsn)
	for _, test := range []struct {
		name  string
		fault faultproxy.Fault
	}{
		{"one byte at a time", faultproxy.Fault{Chunk: 1}},
		{"latency", faultproxy.Fault{Latency: 50 * time.Millisecond}},
		{"a stall that ends in time", faultproxy.Fault{Stall: true}},
	} {
		t.Run(test.name, func(t *testing.T) {
			proxy, through := faultProxy(t, dsn)
			hub, d := startFaultHub(t, pghub.Config{
				Pool: direct, ListenConfig: listenTo(t, through), ProbeInterval: time.Millisecond, ProbeTimeout: faultPatience,
			}, "t")
			proxy.Set(test.fault)
			const events = 200
			for n := range events {
				require.NoError(t, hub.Notify(t.Context(), "t", []int64{int64(n)}, nil))
			}
			if test.fault.Stall {
				proxy.Set(faultproxy.Fault{})
			}
			d.expect(t, "connect", "subscribe t")
			for n := range events {
				d.expect(t, fmt.Sprintf("t=e%d", n))
			}
			require.Zero(t, hub.Stats().Reconnects)
		})
	}
}

// TestFaultNetworkRefused: a port that refuses connections for a while.
func TestFaultNetworkRefused(t *testing.T) {
	dsn := pgtest.Database(t)
	direct := pgtest.Pool(t, dsn)
	proxy, through := faultProxy(t, dsn)
	tr := newTrouble()
	hub, d := startFaultHub(t, pghub.Config{Pool: direct, ListenConfig: listenTo(t, through), OnError: tr.note}, "t")
	require.NoError(t, proxy.Refuse(true))
	proxy.Reset()
	d.await(t, "disconnect")
	err := tr.await(t, 3, func(err error) bool { return errors.Is(err, pghub.ErrNotConnected) })
	require.ErrorContains(t, err, "refused")
	require.NotEqual(t, pghub.StateListening, hub.State())
	require.Error(t, hub.Stats().LastError)
	require.NoError(t, proxy.Refuse(false))
	d.await(t, "reconnect")
	publishUntil(t, d, direct, "t")
}

// TestFaultNetworkSubscribeDuringOutage: Subscribe waits for the reconnection, and is announced behind it.
func TestFaultNetworkSubscribeDuringOutage(t *testing.T) {
	dsn := pgtest.Database(t)
	direct := pgtest.Pool(t, dsn)
	proxy, through := faultProxy(t, dsn)
	tr := newTrouble()
	hub, d := startFaultHub(t, pghub.Config{Pool: direct, ListenConfig: listenTo(t, through), OnError: tr.note}, "t")
	other := newDiary()
	c, err := hub.Consumer(context.Background(), other.handle, nil)
	require.NoError(t, err)
	require.NoError(t, proxy.Refuse(true))
	proxy.Reset()
	d.await(t, "disconnect")
	done := make(chan error, 1)
	go func() { done <- c.Subscribe(t.Context(), "late") }()
	tr.await(t, 3, func(err error) bool { return errors.Is(err, pghub.ErrNotConnected) })
	require.Empty(t, done)
	require.NoError(t, proxy.Refuse(false))
	require.NoError(t, <-done)
	require.NoError(t, hub.Notify(t.Context(), "late", nil, nil))
	other.expect(t, "disconnect", "reconnect", "subscribe late", "late=e")
	d.expect(t, "reconnect")
}
