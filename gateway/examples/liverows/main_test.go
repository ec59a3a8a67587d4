package main

import (
	"context"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/gateway/internal/browser"
	"github.com/pghub/pghub/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestLiveRows(t *testing.T) {
	l, err := newLive(t.Context(), pgtest.Database(t))
	require.NoError(t, err)
	server := httptest.NewServer(l.routes())
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		require.NoError(t, l.gw.Shutdown(ctx))
		server.Close()
		require.NoError(t, l.stop())
	})
	ctx := browser.New(t)
	has := func(rows int, text string) browser.Step {
		return browser.Becomes(`(rows => rows.length === %d && rows.some(r => r.innerText.includes(%q)))([...document.querySelectorAll("tbody tr")])`, rows, text)
	}
	change := func(statement string) {
		_, err := l.pool.Exec(t.Context(), statement)
		require.NoError(t, err)
	}
	browser.Do(ctx, t, chromedp.Navigate(server.URL), has(5, "Espresso"))
	change("UPDATE stock SET name = 'Black tea' WHERE id = 2")
	browser.Do(ctx, t, has(5, "Black tea"))
	change("INSERT INTO stock (name, price, remaining) VALUES ('Cinnamon', 1.5, 12)")
	browser.Do(ctx, t, has(6, "Cinnamon"))
	change("DELETE FROM stock WHERE id IN (1, 3)")
	browser.Do(ctx, t, has(4, "Honey"))
	change("UPDATE stock SET id = 100 WHERE id = 5")
	browser.Do(ctx, t, has(4, "100"))
	browser.Picture(ctx, t, "liverows")
	change("TRUNCATE stock")
	browser.Do(ctx, t, browser.Becomes(`document.querySelectorAll("tbody tr").length === 0`))
}
