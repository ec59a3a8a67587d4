package stream_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/pgtest"
	"github.com/pghub/pghub/sql"
	"github.com/pghub/pghub/stream"
)

// A data folder is put back to an earlier copy, while a process that knows better lives on. Nothing that it remembers, and no position
// that somebody has stored elsewhere, is taken for one of what the server writes anew.
func TestAVolumePutBack(t *testing.T) {
	pgtest.CheckLeaks(t)
	server := pgtest.Private(t, pgtest.Options{})
	l := &lab{t: t, dsn: server.DSN()}
	conn := pgtest.Conn(t, l.dsn)
	require.NoError(t, sql.Install(t.Context(), conn))
	_, err := conn.Exec(t.Context(), `CREATE TABLE ledger (n bigint PRIMARY KEY)`)
	require.NoError(t, err)
	l.join(stream.Config{Live: []string{"a"}, Lease: forEver})

	ledger := func() (numbers []int64) {
		_ = l.pool.QueryRow(t.Context(), `SELECT array_agg(n ORDER BY n) FROM ledger`).Scan(&numbers)
		return numbers
	}
	quick := stream.DurableConfig{RetryMin: time.Millisecond, RetryMax: 10 * time.Millisecond}
	_, err = l.s.DurableTx(t.Context(), "ledger", func(ctx context.Context, tx pgx.Tx, events []*pghub.Event) error {
		for _, ev := range events {
			if _, err := tx.Exec(ctx, `INSERT INTO ledger VALUES ($1)`, ev.Key[0]); err != nil {
				return err
			}
		}
		return nil
	}, &quick)
	require.NoError(t, err)
	saw := newSeen()
	d, err := l.s.Durable(t.Context(), "d", saw.handle, &quick)
	require.NoError(t, err)
	followed := newSeen()
	ended := l.follow(t.Context(), followed.add)
	resynced, live := l.resyncs("a"), newSeen()
	_, err = l.hub.Consumer(t.Context(), func(_ context.Context, ev *pghub.Event) {
		if ev.Advisory == nil {
			live.add(ev)
		}
	}, &pghub.ConsumerConfig{Topics: []string{"a"}})
	require.NoError(t, err)

	l.publish("a", upTo(5)...)
	saw.await(t, numbers("a", 1, 5)...)
	eventually(t, "the ledger", func() bool { return len(ledger()) == 5 })
	eventually(t, "the position is stored", func() bool {
		return one[string](l, `SELECT pghub."position"(tick, txn, id) FROM pghub.consumers WHERE name = 'd'`) == d.Position().String()
	})

	copied := filepath.Join(filepath.Dir(server.Dir()), "copy")
	require.NoError(t, server.Stop(pgtest.Fast))
	copyFolder(t, server.Dir(), copied)
	require.NoError(t, server.Start(t.Context()))
	for n := 6; n <= 8; n++ {
		eventually(t, "it is published", func() bool { return l.s.Publish(t.Context(), "a", []int64{int64(n)}, n) == nil })
	}
	saw.await(t, numbers("a", 1, 8)...)
	followed.await(t, numbers("a", 1, 8)...)
	live.await(t, numbers("a", 1, 8)...) // else it has nothing that the server loses
	eventually(t, "the ledger goes on", func() bool { return len(ledger()) == 8 })
	gone := d.Position()

	require.NoError(t, server.Stop(pgtest.Fast))
	require.NoError(t, os.RemoveAll(server.Dir()))
	require.NoError(t, os.Rename(copied, server.Dir()))
	require.NoError(t, server.Start(t.Context()))
	eventually(t, "the pool has a connection", func() bool { return l.pool.Ping(t.Context()) == nil })

	foreign := func(err error) bool {
		var missing *stream.GapError
		return errors.As(err, &missing) && missing.Gap.Foreign
	}
	require.True(t, foreign(receive(t, ended)), "whoever follows")
	for !foreign(receive(t, resynced)) { // consumers of live topics
	}
	for n := 9; n <= 11; n++ {
		eventually(t, "it is published", func() bool { return l.s.Publish(t.Context(), "a", []int64{int64(n)}, n) == nil })
	}
	told := false
	for _, err := range l.s.Read(t.Context(), stream.At(gone)) {
		told = foreign(err)
	}
	require.True(t, told, "whoever reads from a position that was stored elsewhere")
	saw.await(t, append(numbers("a", 1, 8), numbers("a", 9, 11)...)...)
	eventually(t, "what the server has, and nothing else", func() bool { return slices.Equal(ledger(), []int64{1, 2, 3, 4, 5, 9, 10, 11}) })

	// A consumer that somebody makes, or sets, with such a position is told, and goes on with all that there is.
	for name, cfg := range map[string]stream.DurableConfig{"made": {From: stream.At(gone)}, "set": {From: stream.Latest}} {
		gaps, all := make(chan stream.Gap, 10), newSeen()
		cfg.Lease = time.Second // within which it notices pghub.seek
		cfg.Resync = func(_ context.Context, gap stream.Gap) error {
			gaps <- gap
			return nil
		}
		_, err := l.s.Durable(t.Context(), name, all.handle, &cfg)
		require.NoError(t, err)
		if name == "set" {
			l.do(`SELECT pghub.seek('set', $1)`, gone.String())
		}
		require.True(t, receive(t, gaps).Foreign, name)
		all.await(t, append(numbers("a", 1, 5), numbers("a", 9, 11)...)...)
	}
	require.Zero(t, d.Stats().Resyncs, "it goes on from what the server has of it")
}

func receive[T any](t *testing.T, from <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-time.After(patience):
		require.Fail(t, "waited in vain")
	}
	return v
}

// copyFolder copies a data folder with its owner and its rights.
func copyFolder(t *testing.T, from, to string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "cp", "-a", from, to).CombinedOutput()
	require.NoError(t, err, string(out))
}
