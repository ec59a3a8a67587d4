package pghubtest_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/pghubtest"
)

// When nothing answers any more, a hundred callers who cannot share a statement do not wait for each other's time limits.
func TestCallersInASilentOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := pghubtest.New(t)
		hub := srv.Hub()
		require.NoError(t, hub.Notify(t.Context(), "a", nil, nil))
		srv.Stall()
		began := time.Now()
		answers := make(chan error, 100)
		for range 100 {
			go func() { answers <- hub.NotifyPayload(context.Background(), "a", "refresh") }()
		}
		for range 100 {
			require.Error(t, <-answers)
		}
		require.Less(t, time.Since(began), 20*time.Second)
	})
}

// A server in memory does not depend on what the environment says of a real one.
func TestEnvironment(t *testing.T) {
	for variable, value := range map[string]string{
		"PGHOST": "a,b", "PGPORT": "x", "PGDATABASE": "x", "PGSSLMODE": "nonsense", "PGSSLROOTCERT": "/nonexistent",
		"PGCONNECT_TIMEOUT": "x", "PGTARGETSESSIONATTRS": "standby", "PGTZ": "UTC", "PGOPTIONS": "-c work_mem=1MB",
	} {
		t.Run(variable, func(t *testing.T) {
			t.Setenv(variable, value)
			require.NoError(t, pghubtest.New(t).Hub().Notify(t.Context(), "a", nil, nil))
		})
	}
}
