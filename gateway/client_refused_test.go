package gateway_test

import (
	"net/http"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/gateway"
	"github.com/pghub/pghub/gateway/internal/browser"
)

func TestClientLearnsWhyItIsRefused(t *testing.T) {
	scripted(t, "refusedForNow", "refusedForGood", "tokens", "overtaken")
}

func TestClientDoesNotHurry(t *testing.T) {
	scripted(t, "backoff", "opensAndCloses")
}

// onlyWith has a gateway open to who has a token. Nobody may look at its figures.
func onlyWith(token string, cfg gateway.Config) gateway.Config {
	cfg.Authorize = func(r *http.Request, a gateway.Access) error {
		switch {
		case a.Action == gateway.ActionInspect:
			return gateway.Refuse(http.StatusForbidden, "not for clients")
		case gateway.Token(r) != token:
			return gateway.Refuse(http.StatusUnauthorized, "the token is missing or has expired")
		}
		return nil
	}
	return cfg
}

// Who comes with a bad token is told, and does not come again.
func TestClientInNodeIsRefusedAtTheDoor(t *testing.T) {
	f := newFixture(t, onlyWith("good", gateway.Config{Topics: []string{"a"}}))
	inEffect(t, node(t, f.url("/"), 1, "a", "token=good"))
	next := node(t, f.url("/"), 1, "a", "token=bad")
	var got []line
	for l, more := next(); more; l, more = next() {
		got = append(got, l)
	}
	require.ElementsMatch(t, []line{
		{State: "connecting"},
		{State: "refused", Reason: "the token is missing or has expired", Error: "not_authorized"},
		{State: "not ready", Error: "not_authorized"},
		{Error: "not_authorized"},
		{State: "closed"},
	}, got)
}

// Who finds no room is told, and comes again.
func TestClientInNodeWaitsForRoom(t *testing.T) {
	f := newFixture(t, gateway.Config{Topics: []string{"a"}, MaxClients: 1})
	first := f.dial("/ws")
	next := node(t, f.url("/"), 1, "a")
	for l, more := next(); l.Error != "too_many_clients"; l, more = next() {
		require.True(t, more)
	}
	require.NoError(t, first.CloseNow())
	inEffect(t, next)
}

func TestClientInBrowserIsRefusedAtTheDoor(t *testing.T) {
	f := newFixture(t, onlyWith("good", gateway.Config{Topics: []string{"a"}}))
	ctx := browser.New(t)
	browser.Do(ctx, t, chromedp.Navigate(f.url("/healthz")), chromedp.Evaluate[chromedp.Void](`
		window.said = "";
		import("/pg/client.js").then(async ({ connect, PghubError }) => {
			let token = "bad";
			window.client = connect("/pg/", { token: () => token, minDelay: 10 });
			try {
				for await (const event of client.subscribe("a"));
			} catch (error) {
				window.said = error instanceof PghubError ? error.code + ", " + error.message + ", " + client.state : String(error);
			}
			token = "good";
			client.reconnect();
			client.subscribe("a").ready.then(() => { window.said = "ready"; });
		});`), browser.Becomes(`window.said === "ready"`), chromedp.Evaluate[chromedp.Void](`client.close()`))
}

// Asked for as a page, the address of WebSockets says what refuses one; pages of other sites learn when to come back.
func TestTheAddressOfWebSocketsSaysWhatRefusesThem(t *testing.T) {
	f := newFixture(t, onlyWith("good", gateway.Config{Topics: []string{"a"}, MaxClients: 1, Origins: []string{"https://app.example.com"}}))
	ask := func(token string) (status int, name string) {
		return f.refused("GET", "/ws", "", http.Header{"Authorization": {"Bearer " + token}})
	}
	expect := func(token string, status int, name string) {
		t.Helper()
		gotStatus, gotName := ask(token)
		require.Equal(t, []any{status, name}, []any{gotStatus, gotName})
	}
	expect("bad", 401, "not_authorized")
	expect("good", 426, "upgrade_required")
	require.Zero(t, f.gw.Stats().Accepted)
	stream, _ := f.raw("GET /pg/events?topic=a HTTP/1.1\r\nHost: " + f.http.Listener.Addr().String() + "\r\nAuthorization: Bearer good\r\n\r\n")
	eventually(t, "it is full", func() bool { return f.gw.Stats().Streams == 1 })
	expect("good", 503, "too_many_clients")
	expect("bad", 401, "not_authorized")
	req, err := http.NewRequestWithContext(f.ctx(), http.MethodGet, f.url("/ws"), nil)
	require.NoError(t, err)
	req.Header = http.Header{"Authorization": {"Bearer good"}, "Origin": {"https://app.example.com"}}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, "Retry-After", resp.Header.Get("Access-Control-Expose-Headers"))
	require.Equal(t, "3", resp.Header.Get("Retry-After"))
	require.NoError(t, stream.Close())
	eventually(t, "it has left", func() bool { status, _ := ask("good"); return status == 426 })
	require.NoError(t, f.gw.Shutdown(f.ctx()))
	expect("good", 503, "shutting_down")
}
