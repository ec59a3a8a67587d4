package stream_test

import (
	"context"
	"flag"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/pgtest"
	"github.com/pghub/pghub/stream"
)

var (
	soakFor    = flag.Duration("stream.soak", 8*time.Second, "for how long TestFaults makes faults, at least")
	soakFaults = flag.Int("stream.faults", 30, "how many faults TestFaults makes, at least; it spreads them over that time")
)

// faults are what is done to processes, connections and the server.
type faults struct {
	t       *testing.T
	o       *oracle
	server  *pgtest.Server
	workers *workers
	admin   *pgxpool.Pool
	rng     *rand.Rand
	counts  map[string]int
	healing sync.WaitGroup
}

// fault does something bad, and says what. It heals in the background. "": it could not be done now.
type fault struct {
	weight int
	do     func(*faults) string
}

var faultsToDraw = []fault{
	{10, (*faults).kill},
	{6, (*faults).freeze},
	{4, (*faults).freezeTheSleeper},
	{8, (*faults).network},
	{3, (*faults).cutConnections},
	{3, (*faults).twoSequencers},
	{3, (*faults).rotate},
	{1, (*faults).killBackend},
	{1, (*faults).crash},
	{1, (*faults).restart},
}

// run makes faults, and waits until what heals has.
func (f *faults) run(duration time.Duration, atLeast int) {
	began, made, total := time.Now(), 0, 0
	for _, fault := range faultsToDraw {
		total += fault.weight
	}
	due := began
	for made < atLeast || time.Since(began) < duration {
		n := f.rng.IntN(total)
		for _, fault := range faultsToDraw {
			if n -= fault.weight; n < 0 {
				if name := fault.do(f); name != "" {
					f.counts[name]++
					made++
				}
				break
			}
		}
		due = due.Add(time.Duration(2*f.rng.Float64()*float64(duration)*0.9) / time.Duration(atLeast))
		time.Sleep(time.Until(due)) // the pace of the faults is a part of the load
	}
	f.healing.Wait()
	f.t.Logf("%d faults in %v: %v; %d processes died", made, time.Since(began).Round(time.Millisecond), f.counts, f.workers.deaths())
}

// healAfter undoes a fault when the leases of those whom it hit have ended.
func (f *faults) healAfter(heal func()) {
	f.healing.Go(func() {
		time.Sleep(2 * workerLease) // for so long it lasts
		heal()
	})
}

// ask runs a query of one row and one column, and says whether there was one: the server may be about to come back.
func (f *faults) ask(answer any, sql string, args ...any) bool {
	ctx, cancel := context.WithTimeout(f.t.Context(), 5*time.Second)
	defer cancel()
	return f.admin.QueryRow(ctx, sql, args...).Scan(answer) == nil
}

// draw chooses a worker: the sequencer, one that works for a consumer, or any.
func (f *faults) draw() (i int, what string) {
	owner := ""
	switch f.rng.IntN(3) {
	case 0:
		what = "sequencer"
		f.ask(&owner, `SELECT owner FROM pghub.leases WHERE task = 'sequencer'`)
	case 1:
		what = "consumer's owner"
		f.ask(&owner, `SELECT owner FROM pghub.consumers WHERE owner IS NOT NULL ORDER BY random() LIMIT 1`)
	}
	i, is := f.workers.find(owner)
	if !is {
		what = "any process"
	}
	return i, what
}

func (f *faults) kill() string {
	i, what := f.draw()
	f.workers.kill(i)
	return "kill -9 of " + what
}

func (f *faults) freeze() string {
	i, what := f.draw()
	thaw := f.workers.freeze(i)
	f.healAfter(thaw)
	return "freeze of " + what
}

// freezeTheSleeper has writers be quiet, so that the sequencer falls asleep, and stops its process, or its server process, with the
// bell's lock in its hands. The next writer rings in vain.
func (f *faults) freezeTheSleeper() string {
	f.o.rest(true)
	defer f.o.rest(false)
	const holder = `SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND classid = 1885816930 AND objid = 1 AND mode = 'ExclusiveLock' AND granted`
	var pid int
	for until := time.Now().Add(time.Second); !f.ask(&pid, holder); {
		if time.Now().After(until) {
			return "" // there is none: the last fault is not over
		}
	}
	var owner string
	if f.rng.IntN(2) == 0 && f.ask(&owner, `SELECT owner FROM pghub.leases WHERE task = 'sequencer'`) {
		i, _ := f.workers.find(owner)
		f.healAfter(f.workers.freeze(i))
		return "freeze of the sleeper"
	}
	if f.server.Signal(pid, pgtest.Freeze) != nil {
		return ""
	}
	f.healAfter(func() { _ = f.server.Signal(pid, pgtest.Thaw) }) // it may have been killed with the server
	return "freeze of the sleeper's backend"
}

func (f *faults) cutConnections() string {
	var n int
	f.ask(&n, `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend' AND random() < 0.5`)
	return "connections cut"
}

// twoSequencers has another process take the sequencer's lease, whose owner finds out when it next asks, and makes ticks meanwhile
// from here too.
func (f *faults) twoSequencers() string {
	var was string
	if !f.ask(&was, `UPDATE pghub.leases SET until = now() - interval '1 day' WHERE task = 'sequencer' RETURNING owner`) {
		return ""
	}
	for range 20 {
		var tick *int64
		f.ask(&tick, `SELECT tick FROM pghub.tick()`)
	}
	return "two sequencers"
}

// rotate drops what both consumers have: it makes that older than it is.
func (f *faults) rotate() string {
	var rotated *bool
	f.ask(&rotated, `WITH aged AS (UPDATE pghub.ticks SET at = at - interval '40 hours' WHERE tick < (SELECT min(tick) FROM pghub.consumers) RETURNING 1)
		SELECT count(*) > 0 FROM aged`)
	for range 20 { // it does not wait for readers, which come and go
		if f.ask(&rotated, `SELECT pghub.rotate()`) && *rotated {
			return "rotation"
		}
	}
	return ""
}

// killBackend has the server think that its memory is spoilt: it ends all backends, and recovers.
func (f *faults) killBackend() string {
	var pid int
	if !f.ask(&pid, `SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend' ORDER BY random() LIMIT 1`) ||
		f.server.Signal(pid, 9) != nil {
		return ""
	}
	return "kill -9 of a backend"
}

func (f *faults) crash() string {
	require.NoError(f.t, f.server.Kill())
	require.NoError(f.t, f.server.Start(f.t.Context()))
	return "crash of the server"
}

func (f *faults) restart() string {
	f.healing.Wait() // it waits for its backends
	var up bool
	if !f.ask(&up, `SELECT true`) {
		return "" // it recovers from the fault before
	}
	if err := f.server.Stop(pgtest.Fast); err != nil {
		f.t.Log(err)
		require.NoError(f.t, f.server.Kill())
	}
	require.NoError(f.t, f.server.Start(f.t.Context()))
	return "restart of the server"
}

// Processes are killed and frozen, connections cut, the server crashes: nothing is lost, nothing comes twice where the position
// is stored with the work, no row goes backwards, and no transaction is torn.
func TestFaults(t *testing.T) {
	rng := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 2))
	server := pgtest.Private(t, pgtest.Options{Settings: map[string]string{
		"max_prepared_transactions": "10", "default_transaction_isolation": []string{"serializable", "repeatable read"}[rng.IntN(2)],
	}})
	o := newOracle(t, server, server.DSN())
	f := &faults{
		t: t, o: o, server: server, workers: newWorkers(t, server.DSN(), 3),
		admin: pgtest.Pool(t, server.DSN()+"&default_transaction_isolation=read%20committed"), // what ticks and rotation need
		rng:   rng, counts: make(map[string]int),
	}
	if testing.Short() {
		*soakFor, *soakFaults = *soakFor/2, *soakFaults/2
	}
	f.run(*soakFor, *soakFaults)
	o.end()
	f.workers.calm()
	pool, _, s := process(t, server.DSN(), stream.Config{Lease: workerLease})
	o.check(pool, s)
}
