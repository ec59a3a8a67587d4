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

func TestChat(t *testing.T) {
	c, err := newChat(t.Context(), pgtest.Database(t))
	require.NoError(t, err)
	server := httptest.NewServer(c.routes())
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		require.NoError(t, c.gw.Shutdown(ctx))
		server.Close()
		require.NoError(t, c.stop())
	})
	_, err = c.pool.Exec(t.Context(), "INSERT INTO chat_messages (author, body) VALUES ('Ann', 'said before')")
	require.NoError(t, err)

	ctx := browser.New(t)
	said := func(text string) browser.Step {
		return browser.Becomes(`[...document.querySelectorAll("li div")].filter(d => d.innerText === %q).length === 1`, text)
	}
	browser.Do(ctx, t, chromedp.Navigate(server.URL), said("said before"),
		chromedp.SendKeys(chromedp.CSS("#author"), "Bob"), chromedp.SendKeys(chromedp.CSS("#body"), "from the page\r"), said("from the page"))
	_, err = c.pool.Exec(t.Context(), "INSERT INTO chat_messages (author, body) VALUES ('psql', '<b>from SQL</b>')")
	require.NoError(t, err)
	browser.Do(ctx, t, said("<b>from SQL</b>"))
	browser.Picture(ctx, t, "chat")
}
