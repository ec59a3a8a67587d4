package main

import (
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestParseStat(t *testing.T) {
	p, err := parseStat("812 (postgres: a (b) c) S 7 812 812 0 -1 4194560 100 200 0 0 15 5 30 40 20 0 1 0 100 200 300")
	require.NoError(t, err)
	require.Equal(t, processStat{pid: "812", parent: "7", own: 200 * time.Millisecond, children: 700 * time.Millisecond}, p)

	for _, text := range []string{"", "812 (postgres", "812 (postgres) S 7 812", "812 (postgres) S 7 812 812 0 -1 4194560 100 200 0 0 x 5 30 40 20"} {
		_, err := parseStat(text)
		require.Error(t, err, text)
	}

	own, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return // not Linux
	}
	p, err = parseStat(string(own))
	require.NoError(t, err)
	require.Equal(t, strconv.Itoa(os.Getpid()), p.pid)
}
