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
	set(t, stream.QuietTime, 10*time.Millisecond)
	l := newLab(t, stream.Config{Lease: forEver})
	saw := newSeen()
	_, err := l.s.Durable(t.Context(), "d", saw.handle, nil)
	require.NoError(t, err)
	l.awaitSleep()
	l.publish("a", 1) // with the first event that wakes it, it looks whether it is time to rotate; later it would wait for the lock there
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

// Who rings has committed, so the sequencer does not rest before it looks. Here a rest would take longer than the test.
func TestTheSequencerLooksWhenItIsWoken(t *testing.T) {
	set(t, stream.QuietTime, -1)
	set(t, stream.LookPause, forEver)
	l := newLab(t, stream.Config{Lease: forEver})
	saw := newSeen()
	_, err := l.s.Durable(t.Context(), "d", saw.handle, nil)
	require.NoError(t, err)
	eventually(t, "the sequencer sleeps", func() bool { return l.s.Stats().Sleeps == 1 })
	l.publish("a", 1)
	saw.await(t, "a 1")
}

// Old events are dropped where all come one at a time, each while the sequencer sleeps.
func TestRotationOfSeldomEvents(t *testing.T) {
	set(t, stream.QuietTime, 10*time.Millisecond)
	l := newLab(t, stream.Config{Lease: forEver, Retain: time.Second})
	late := time.Now().Add(patience)
	slept := uint64(0)
	for n := 1; one[int64](l, `SELECT last_value FROM pghub.log_table`) == 0; n++ {
		require.True(t, time.Now().Before(late), "%d events, and no rotation", n)
		eventually(t, "the sequencer sleeps", func() bool { return l.s.Stats().Sleeps > slept })
		slept = l.s.Stats().Sleeps
		l.publish("a", n)
	}
}

// set changes a variable for a test.
func set[T any](t *testing.T, variable *T, value T) {
	t.Helper()
	before := *variable
	*variable = value
	t.Cleanup(func() { *variable = before })
}
