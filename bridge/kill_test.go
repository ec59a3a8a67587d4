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

func (in *inbox) count() int {
	in.mu.Lock()
	defer in.mu.Unlock()
	return len(in.ids)
}

// A bridge that is killed between handing messages over and storing its position loses none, and keeps their order: a receiver of webhooks that goes by their
// IDs sees each event once, and in another PostgreSQL each is once.
func TestKilledWhileItSends(t *testing.T) {
	l := newLab(t)
	targetDSN := pgtest.Database(t)
	require.NoError(t, sql.Install(t.Context(), pgtest.Conn(t, targetDSN)))
	target := pgtest.Pool(t, targetDSN)
	in := &inbox{text: make(map[string]string)}
	server := httptest.NewServer(in)
	t.Cleanup(server.Close)

	const each = 3 * childBatch // events of a life: at least three batches, or as many requests
	published := 0
	live := func(fatal string) *exec.Cmd {
		l.publish("a", published+1, published+each)
		published += each
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"="+l.dsn, childTarget+"="+targetDSN, childURL+"="+server.URL, childFatal+"="+fatal)
		cmd.Stderr = os.Stderr
		require.NoError(t, cmd.Start())
		return cmd
	}
	for n := range kills(t) {
		fatal := fmt.Sprint("hooks ", 1+rand.IntN(each))
		if n%2 == 0 {
			fatal = fmt.Sprint("mirror ", 1+rand.IntN(each/childBatch))
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
	eventually(t, "all has arrived", func() bool { return in.count() >= published && mirrored() >= published })

	in.mu.Lock()
	defer in.mu.Unlock()
	require.Empty(t, in.odd)
	require.Len(t, in.ids, published)
	for i, id := range in.ids {
		require.Equal(t, strconv.Itoa(i+1), in.text[id], "the %d-th webhook", i+1)
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
