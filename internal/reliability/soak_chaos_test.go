package reliability

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pghub/pghub/internal/faultproxy"
	"github.com/pghub/pghub/internal/pgtest"
)

// chaos makes faults.
type chaos struct {
	soak   *soak
	rng    *rand.Rand
	counts map[string]int

	ctx     context.Context // ends when all faults are to be healed
	healing sync.WaitGroup  // goroutines that heal what they have done

	restarting atomic.Bool // the server is on its way down or up

	mu      sync.Mutex
	stopped map[int]bool              // backends under SIGSTOP
	doomed  map[*faultproxy.Conn]bool // connections that have swallowed something
}

func newChaos(s *soak, rng *rand.Rand) *chaos {
	return &chaos{soak: s, rng: rng, counts: map[string]int{}, stopped: map[int]bool{}, doomed: map[*faultproxy.Conn]bool{}}
}

// soakFault does something bad and returns its name, or "" if it could not be done now.
type soakFault struct {
	weight int
	do     func(ch *chaos, t *testing.T, h *soakHub) string
}

var soakFaultsToDraw = []soakFault{
	{8, (*chaos).reset},
	{6, (*chaos).halfClose},
	{8, (*chaos).blackhole},
	{8, (*chaos).stall},
	{5, (*chaos).dribble},
	{5, (*chaos).latency},
	{4, (*chaos).refuse},
	{8, (*chaos).terminate},
	{6, (*chaos).freeze},
	{2, (*chaos).restartFast},
	{2, (*chaos).restartImmediate},
	{2, (*chaos).crash},
}

// run makes a fault every 50 to 250 ms, for as long as it is to and until there were enough, and heals everything.
func (ch *chaos) run(t *testing.T, duration time.Duration, atLeast int) {
	ctx, heal := context.WithCancel(t.Context())
	defer heal()
	ch.ctx = ctx
	end := ch.soak.now() + duration
	for ch.soak.now() < end || ch.total() < atLeast {
		pause(ctx, time.Duration(50+ch.rng.IntN(200))*time.Millisecond)
		name := ""
		for name == "" {
			h := ch.soak.hubs[ch.rng.IntN(len(ch.soak.hubs))]
			name = ch.draw().do(ch, t, h)
		}
		ch.counts[name]++
	}
	heal()
	ch.healing.Wait()
	ch.thaw()
}

func (ch *chaos) draw() soakFault {
	sum := 0
	for _, f := range soakFaultsToDraw {
		sum += f.weight
	}
	n := ch.rng.IntN(sum)
	for _, f := range soakFaultsToDraw {
		if n -= f.weight; n < 0 {
			return f
		}
	}
	panic("unreachable")
}

func (ch *chaos) total() (n int) {
	for _, count := range ch.counts {
		n += count
	}
	return n
}

func (ch *chaos) String() string { return describe(ch.counts) }

// later heals a fault after a while, or when everything is to be healed.
func (ch *chaos) later(most time.Duration, heal func()) {
	wait := time.Duration(ch.rng.Int64N(int64(most)))
	ch.healing.Go(func() {
		pause(ch.ctx, wait)
		heal()
	})
}

// some returns one of the hub's connections, or all.
func (ch *chaos) some(h *soakHub) []*faultproxy.Conn {
	conns := h.proxy.Conns()
	if len(conns) > 1 && ch.rng.IntN(2) == 0 {
		i := ch.rng.IntN(len(conns))
		return conns[i : i+1]
	}
	return conns
}

func (ch *chaos) reset(_ *testing.T, h *soakHub) string {
	for _, c := range ch.some(h) {
		if ch.rng.IntN(2) == 0 {
			c.Reset()
		} else {
			c.Close()
		}
	}
	return "reset"
}

func (ch *chaos) halfClose(_ *testing.T, h *soakHub) string {
	d := faultproxy.Direction(ch.rng.IntN(2))
	for _, c := range ch.some(h) {
		c.HalfClose(d)
	}
	return "half-close"
}

// blackhole swallows what some connections carry. They never come back from that, as TCP does not go on with bytes
// missing: what remains of them is reset in the end.
func (ch *chaos) blackhole(_ *testing.T, h *soakHub) string {
	conns, to := ch.some(h), ch.directions()
	ch.mu.Lock()
	for _, c := range conns {
		ch.doomed[c] = true
		for _, d := range to {
			c.SetDirection(d, faultproxy.Fault{Blackhole: true})
		}
	}
	ch.mu.Unlock()
	ch.later(1500*time.Millisecond, func() {
		for _, c := range conns {
			c.Reset()
		}
	})
	return "blackhole"
}

// directions draws one direction, or both.
func (ch *chaos) directions() []faultproxy.Direction {
	both := []faultproxy.Direction{faultproxy.ToServer, faultproxy.ToClient}
	if i := ch.rng.IntN(3); i < 2 {
		return both[i : i+1]
	}
	return both
}

// passing applies a fault that loses nothing to some connections, for a while.
func (ch *chaos) passing(h *soakHub, f faultproxy.Fault, most time.Duration) {
	conns, to := ch.some(h), ch.directions()
	apply := func(f faultproxy.Fault) {
		ch.mu.Lock()
		defer ch.mu.Unlock()
		for _, c := range conns {
			for _, d := range to {
				if !ch.doomed[c] {
					c.SetDirection(d, f)
				}
			}
		}
	}
	apply(f)
	ch.later(most, func() { apply(faultproxy.Fault{}) })
}

func (ch *chaos) stall(_ *testing.T, h *soakHub) string {
	ch.passing(h, faultproxy.Fault{Stall: true}, time.Second)
	return "stall"
}

func (ch *chaos) dribble(_ *testing.T, h *soakHub) string {
	ch.passing(h, faultproxy.Fault{Chunk: 1 + ch.rng.IntN(3), Pause: time.Duration(ch.rng.IntN(2)) * time.Microsecond}, 400*time.Millisecond)
	return "dribble"
}

func (ch *chaos) latency(_ *testing.T, h *soakHub) string {
	ch.passing(h, faultproxy.Fault{Latency: time.Duration(ch.rng.IntN(150)) * time.Millisecond}, 500*time.Millisecond)
	return "latency"
}

func (ch *chaos) refuse(t *testing.T, h *soakHub) string {
	if h.proxy.Refuse(true) != nil {
		return ""
	}
	if ch.rng.IntN(2) == 0 {
		h.proxy.Reset()
	}
	ch.later(700*time.Millisecond, func() {
		if err := h.proxy.Refuse(false); err != nil {
			t.Error(err)
		}
	})
	return "refuse"
}

// terminate ends the hub's listener as an administrator would.
func (ch *chaos) terminate(_ *testing.T, h *soakHub) string {
	pid := h.hub.Stats().PID
	if pid == 0 || ch.restarting.Load() {
		return ""
	}
	ctx, cancel := context.WithTimeout(ch.ctx, 5*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, ch.soak.dsn("disable"))
	if err != nil {
		return "" // the server is recovering
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if _, err := conn.Exec(ctx, "SELECT pg_terminate_backend($1)", pid); err != nil {
		return ""
	}
	return "terminate"
}

// freeze stops the server process of the hub's listener for a while.
func (ch *chaos) freeze(_ *testing.T, h *soakHub) string {
	pid := int(h.hub.Stats().PID)
	if pid == 0 || ch.restarting.Load() || ch.soak.server.Signal(pid, pgtest.Freeze) != nil {
		return ""
	}
	ch.mu.Lock()
	ch.stopped[pid] = true
	ch.mu.Unlock()
	ch.later(1200*time.Millisecond, func() { ch.thaw(pid) })
	return "freeze"
}

// thaw lets stopped processes go on: those named, or all.
func (ch *chaos) thaw(pids ...int) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if len(pids) == 0 {
		for pid := range ch.stopped {
			pids = append(pids, pid)
		}
	}
	for _, pid := range pids {
		if ch.stopped[pid] {
			delete(ch.stopped, pid)
			_ = ch.soak.server.Signal(pid, pgtest.Thaw) // it may have ended
		}
	}
}

func (ch *chaos) restartFast(t *testing.T, _ *soakHub) string {
	return ch.restart(t, "restart, fast", pgtest.Fast)
}

func (ch *chaos) restartImmediate(t *testing.T, _ *soakHub) string {
	return ch.restart(t, "restart, immediate", pgtest.Immediate)
}

// restart stops the server and starts it again a little later, while other faults go on.
func (ch *chaos) restart(t *testing.T, name string, mode pgtest.StopMode) string {
	if !ch.restarting.CompareAndSwap(false, true) {
		return ""
	}
	ch.thaw()
	ch.healing.Go(func() {
		defer ch.restarting.Store(false)
		if err := ch.soak.server.Restart(context.WithoutCancel(ch.ctx), mode); err != nil {
			t.Error(err)
		}
	})
	return name
}

// crash kills a server process, upon which the server ends all others and recovers.
func (ch *chaos) crash(_ *testing.T, h *soakHub) string {
	pid := int(h.hub.Stats().PID)
	if pid == 0 || ch.restarting.Load() {
		return ""
	}
	ch.thaw()
	if ch.soak.server.Signal(pid, syscall.SIGKILL) != nil {
		return ""
	}
	return "crash of a process"
}
