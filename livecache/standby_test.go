package livecache

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/pgtest"
)

// What was committed before the call is there when it returns, also where the commit did not wait for the disk.
func TestAwaitStandby(t *testing.T) {
	primary := pgtest.Private(t, pgtest.Options{})
	standby, err := primary.Standby(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, standby.Close()) })
	on, at := pgtest.Pool(t, primary.DSN()), pgtest.Pool(t, standby.DSN())
	_, err = on.Exec(t.Context(), "CREATE TABLE rows AS SELECT 0 AS version")
	require.NoError(t, err)

	for version := 1; version <= 50; version++ {
		_, err = on.Exec(t.Context(), "SET synchronous_commit = off; UPDATE rows SET version = version + 1")
		require.NoError(t, err)
		require.NoError(t, AwaitStandby(pgtest.Within(t), on, at))
		var got int
		require.NoError(t, at.QueryRow(t.Context(), "SELECT version FROM rows").Scan(&got))
		require.Equal(t, version, got)
	}

	// A standby that does not go on is waited for until the context ends.
	_, err = at.Exec(t.Context(), "SELECT pg_wal_replay_pause()")
	require.NoError(t, err)
	_, err = on.Exec(t.Context(), "UPDATE rows SET version = version + 1")
	require.NoError(t, err)
	soon, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, AwaitStandby(soon, on, at), context.DeadlineExceeded)
	_, err = at.Exec(t.Context(), "SELECT pg_wal_replay_resume()")
	require.NoError(t, err)
	require.NoError(t, AwaitStandby(pgtest.Within(t), on, at))
	require.NoError(t, AwaitStandby(pgtest.Within(t), on, on), "a server that is no standby is not waited for")
}

func TestEndOfRecords(t *testing.T) {
	const page, segment = 8192, 16 << 20
	for position, want := range map[uint64]uint64{
		segment + 40:          segment,        // nothing in the segment yet
		segment + page + 24:   segment + page, // nothing on the page yet
		segment + 24:          segment + 24,   // cannot be, and is left as it is
		segment + page + 40:   segment + page + 40,
		segment + page + 1000: segment + page + 1000,
		segment + page:        segment + page,
	} {
		require.Equal(t, want, endOfRecords(position, page, segment))
	}
}
