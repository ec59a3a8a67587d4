package bridge_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/pgtest"
	"github.com/pghub/pghub/sql"
)

// kills is how often the bridge is killed.
func kills(t *testing.T) int {
	text := os.Getenv("PGHUB_BRIDGE_KILLS")
	if text == "" {
		return 20
	}
	n, err := strconv.Atoi(text)
	require.NoError(t, err)
	return n
}

// inbox is a receiver of webhooks. It notes each request before it answers.
type inbox struct {
	mu   sync.Mutex
	ids  []string
	text map[string]string // by ID
	odd  []string
}

func (in *inbox) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the sender has died: it was not taken
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	id := r.Header.Get("webhook-id")
	before, known := in.text[id]
	switch {
	case !known:
		in.ids = append(in.ids, id)
		in.text[id] = string(body)
	case before != string(body):
		in.odd = append(in.odd, fmt.Sprintf("%s was %s, and is %s", id, before, body))
	}
}

func newInbox() *inbox { return &inbox{text: make(map[string]string)} }

// numbers are the values that have arrived, each ID once, in the order of their first arrival.
func (in *inbox) numbers(t *testing.T, want int) (list []int) {
	t.Helper()
	in.mu.Lock()
	defer in.mu.Unlock()
	require.Empty(t, in.odd)
	require.Len(t, in.ids, want)
	for _, id := range in.ids {
		n, err := strconv.Atoi(in.text[id])
		require.NoError(t, err)
		list = append(list, n)
	}
	return list
}

func (in *inbox) count() int {
	in.mu.Lock()
	defer in.mu.Unlock()
	return len(in.ids)
}

// A bridge that is killed between handing messages over and storing its position loses none, and keeps their order: a receiver of
// webhooks that goes by their IDs sees each event once, with lanes in the order of each key, and in another PostgreSQL each is
// once.
func TestKilledWhileItSends(t *testing.T) {
	l := newLab(t)
	targetDSN := pgtest.Database(t)
	require.NoError(t, sql.Install(t.Context(), pgtest.Conn(t, targetDSN)))
	target := pgtest.Pool(t, targetDSN)
	in, lanes := newInbox(), newInbox()
	mux := http.NewServeMux()
	mux.Handle("/", in)
	mux.Handle("/lanes", lanes)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)

	const each = 3 * childBatch // events of a life: at least three batches, or as many requests
	const keys = 5
	published := 0
	live := func(fatal string) *exec.Cmd {
		for range each {
			published++
			require.NoError(t, l.s.Publish(t.Context(), "a", []int64{int64(published % keys)}, published))
		}
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"="+l.dsn, childTarget+"="+targetDSN, childURL+"="+server.URL, childFatal+"="+fatal)
		cmd.Stderr = os.Stderr
		require.NoError(t, cmd.Start())
		return cmd
	}
	for n := range kills(t) {
		fatal := fmt.Sprint("mirror ", 1+rand.IntN(each/childBatch))
		if n%3 > 0 {
			fatal = fmt.Sprint([]string{"hooks ", "lanes "}[n%3-1], 1+rand.IntN(each))
		}
		require.ErrorContains(t, live(fatal).Wait(), "killed", "it dies of its own hand")
	}
	last := live("")
	mirrored := func() (n int) {
		if err := target.QueryRow(t.Context(), `SELECT count(*) FROM pghub.log`).Scan(&n); err != nil {
			return -1
		}
		return n
	}
	t.Cleanup(func() {
		_ = last.Process.Kill()
		_ = last.Wait()
	})
	eventually(t, "all has arrived", func() bool { return in.count() >= published && lanes.count() >= published && mirrored() >= published })

	for i, n := range in.numbers(t, published) {
		require.Equal(t, i+1, n, "the %d-th webhook", i+1)
	}
	latest := make(map[int]int) // by key
	for i, n := range lanes.numbers(t, published) {
		require.Greater(t, n, latest[n%keys], "the %d-th webhook of a route with lanes, of key %d", i+1, n%keys)
		latest[n%keys] = n
	}
	rows, err := target.Query(t.Context(), `SELECT value::int FROM pghub.log ORDER BY id`)
	require.NoError(t, err)
	defer rows.Close()
	for n := 1; rows.Next(); n++ {
		var value int
		require.NoError(t, rows.Scan(&value))
		require.Equal(t, n, value, "the %d-th mirrored event", n)
	}
	require.NoError(t, rows.Err())
	require.Equal(t, published, mirrored())
}
