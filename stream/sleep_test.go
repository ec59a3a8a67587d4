package stream_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/pgtest"
	"github.com/pghub/pghub/stream"
)

// A writer that commits before the sequencer has the bell's lock does not ring, and the sequencer's last look has been. So it
// looks once more when it has the lock. It is held up here right before that, by a lock on the table that it asks whether there is a bell.
func TestTheSequencerLooksOnceMore(t *testing.T) {
	quiet := *stream.QuietTime
	*stream.QuietTime = 10 * time.Millisecond
	t.Cleanup(func() { *stream.QuietTime = quiet })
	l := newLab(t, stream.Config{Lease: forEver})
	saw := newSeen()
	_, err := l.s.Durable(t.Context(), "d", saw.handle, nil)
	require.NoError(t, err)
	l.publish("a", 1)
	saw.await(t, "a 1")
	l.awaitSleep()

	tx, err := pgtest.Conn(t, l.dsn).Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `LOCK TABLE pghub.stream_settings IN ACCESS EXCLUSIVE MODE`)
	require.NoError(t, err)
	l.publish("a", 2)
	saw.await(t, "a 1", "a 2")
	eventually(t, "the sequencer is about to sleep", func() bool {
		return one[bool](l, `SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 'pghub.stream_settings'::regclass AND NOT granted)`)
	})
	l.publish("a", 3)
	require.NoError(t, tx.Rollback(t.Context()))
	saw.await(t, "a 1", "a 2", "a 3")
}
