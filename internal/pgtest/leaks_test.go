package pgtest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestLeakIsFound(t *testing.T) {
	before := goroutines()
	release := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		<-release
	}()
	for _, counts := range []func(string) bool{isOurs, isOfModule} {
		left := awaitEnd(before, counts, 50*time.Millisecond)
		require.Len(t, left, 1)
		require.Contains(t, leakReport(left), "TestLeakIsFound")
	}
	close(release)
	<-ended
	require.Empty(t, awaitEnd(before, isOurs, leakTimeout))
}

func TestLeakCheckPassesCleanTest(t *testing.T) {
	CheckLeaks(t)
	require.NoError(t, Pool(t, Database(t)).Ping(t.Context()))
}
