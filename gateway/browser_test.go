package gateway_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/gateway"
	"github.com/pghub/pghub/gateway/internal/browser"
	"github.com/pghub/pghub/internal/pgtest"
)

// hasRow waits for an event in the list.
func hasRow(text string) browser.Step {
	return browser.Becomes(`[...document.querySelectorAll("#events li")].some(li => li.innerText.includes(%q))`, text)
}

// shortcut presses a key that moves the focus. Chromium's test interface types the character too, whatever the page says
// to that; a keyboard does not.
func shortcut(key, field string) browser.Step {
	return chromedp.Steps(chromedp.KeyEvent(key), browser.Becomes(`document.activeElement.id === %q`, field),
		chromedp.Evaluate[chromedp.Void](`document.activeElement.value = ""`))
}

func TestViewerInBrowser(t *testing.T) {
	server := pgtest.Private(t, pgtest.Options{})
	f := fixtureOn(t, server.DSN(), gateway.Config{Topics: []string{"order*", "people"}, Publish: []string{"order*"}})
	ctx := browser.New(t)
	browser.Do(ctx, t, browser.Theme("light"), chromedp.Navigate(f.url("/")), browser.Becomes(`document.querySelector("#state").dataset.state === "connected"`))

	// Subscribe with the keyboard alone, and see what SQL sends.
	browser.Do(ctx, t, shortcut("s", "topic"), chromedp.KeyEvent("orders"), chromedp.KeyEvent(kb.Enter),
		browser.Becomes(`document.querySelector('#topics li[data-active="true"]')?.innerText.includes("orders")`))
	f.notify("orders", `e1001,9007199254740993:{"total":99.50,"id":9223372036854775807,"items":["tea","milk"]}`)
	f.notify("orders", "a plain NOTIFY")
	browser.Do(ctx, t, hasRow(`9007199254740993`), hasRow(`"id": 9223372036854775807`), hasRow("99.50"), hasRow("a plain NOTIFY"), hasRow("no leading e"))

	// Refused topics say why.
	browser.Do(ctx, t, chromedp.SendKeys(chromedp.CSS("#topic"), "secret"+kb.Enter),
		browser.Becomes(`document.querySelector("#refused").innerText.includes("not open")`))

	// Publish from the page.
	browser.Do(ctx, t, chromedp.SendKeys(chromedp.CSS("#publish-key"), "7, 8"), chromedp.SendKeys(chromedp.CSS("#publish-value"), `"from the page"`+kb.Tab+kb.Tab+kb.Enter),
		browser.Becomes(`document.querySelector("#published").innerText === "Published."`), hasRow("from the page"))
	browser.Do(ctx, t, chromedp.SetValue(chromedp.CSS("#publish-value"), `{"no json`), chromedp.Click(chromedp.CSS("#publish button")),
		browser.Becomes(`document.querySelector("#published").innerText.includes("must be JSON")`))

	// Pause, filter, resume.
	browser.Do(ctx, t, chromedp.Focus(chromedp.CSS("#events")), chromedp.KeyEvent("p"))
	f.notify("orders", `e1002:{"status":"shipped"}`)
	browser.Do(ctx, t, browser.Becomes(`document.querySelector("#count").innerText.includes("1 waiting")`),
		browser.Becomes(`!document.querySelector("#events").innerText.includes("shipped")`),
		chromedp.KeyEvent("p"), hasRow("shipped"), shortcut("/", "filter"), chromedp.KeyEvent("SHIP"),
		browser.Becomes(`document.querySelectorAll("#events li").length === 1`),
		browser.Becomes(`document.querySelector("#count").innerText.includes("1 of ")`))
	browser.Do(ctx, t, chromedp.SendKeys(chromedp.CSS("#filter"), strings.Repeat(kb.Backspace, 4)), hasRow("tea"))

	// The database restarts; the page stays, is told, and goes on.
	require.NoError(t, server.Restart(t.Context(), pgtest.Fast))
	browser.Do(ctx, t, hasRow("the database is away"), hasRow("the database is back"))
	eventually(t, "the pool is back too", func() bool { return f.pool.Ping(f.ctx()) == nil })
	f.notify("orders", `e1003:{"after":"the restart"}`)
	browser.Do(ctx, t, hasRow("the restart"), browser.Becomes(`document.querySelector("#state").innerText === "connected"`))
	browser.Picture(ctx, t, "viewer-light")
	browser.Do(ctx, t, browser.Theme("dark"))
	browser.Picture(ctx, t, "viewer-dark")
	browser.Do(ctx, t, chromedp.EmulateViewport(400, 800))
	browser.Picture(ctx, t, "viewer-narrow")
}

func TestEventSourceInBrowser(t *testing.T) {
	f := newFixture(t, gateway.Config{Topics: []string{"*"}, Retry: 50 * time.Millisecond})
	ctx := browser.New(t)
	browser.Do(ctx, t, chromedp.Navigate(f.url("/healthz")), chromedp.Evaluate[chromedp.Void](`
		window.got = [];
		const source = new EventSource("/pg/events?topic=a&topic=b");
		source.onmessage = e => got.push(e.lastEventId + " " + e.data);
		source.addEventListener("advisory", e => got.push("advisory " + JSON.parse(e.data).value.action));`),
		browser.Becomes(`got.filter(g => g === "advisory subscribe").length === 2`))
	f.notify("a", "e1")
	f.notify("b", `e:"x"`)
	browser.Do(ctx, t, browser.Becomes(`got.includes(%q)`, "3 "+event("a", "1", "null")), browser.Becomes(`got.includes(%q)`, "4 "+event("b", "", `"x"`)))

	// The connection is lost; EventSource comes back by itself and learns of the gap.
	f.http.CloseClientConnections()
	browser.Do(ctx, t, browser.Becomes(`got.includes("advisory reconnect")`))
	f.notify("a", "e2")
	browser.Do(ctx, t, browser.Becomes(`got.some(g => g.endsWith(%q))`, event("a", "2", "null")))
}

// switched is the gateway of the moment on a port that stays: one process after another.
type switched struct {
	atomic.Pointer[gateway.Gateway]
}

func (s *switched) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.Load().ServeHTTP(w, r) }

// A restart is no end for EventSource, also if it comes back while the old process is still there and refuses it.
func TestEventSourceOutlivesARestart(t *testing.T) {
	cfg := gateway.Config{Topics: []string{"*"}, Retry: 50 * time.Millisecond}
	f := newFixture(t, cfg)
	first := f.gw
	second, err := gateway.New(f.hub, cfg)
	require.NoError(t, err)
	var now switched
	now.Store(first)
	server := httptest.NewServer(&now)
	t.Cleanup(func() {
		require.NoError(t, second.Shutdown(context.Background()))
		server.CloseClientConnections()
		server.Close()
	})
	ctx := browser.New(t)
	const sources = 5 // a browser has six connections to a host
	browser.Do(ctx, t, chromedp.Navigate(server.URL+"/healthz"), chromedp.Evaluate[chromedp.Void](fmt.Sprintf(`
		window.sources = [], window.subscribed = 0, window.got = 0, window.refused = 0;
		for (let i = 0; i < %d; i++) {
			const source = new EventSource("/events?topic=t");
			source.onmessage = () => got++;
			source.addEventListener("refused", e => { if (JSON.parse(e.data).error === "shutting_down") refused++; });
			source.addEventListener("advisory", e => { if (JSON.parse(e.data).value.action === "subscribe") subscribed++; });
			sources.push(source);
		}`, sources)), browser.Becomes(`subscribed === %d`, sources))
	require.NoError(t, first.Shutdown(f.ctx()))
	browser.Do(ctx, t, browser.Becomes(`refused >= %d`, 3*sources))
	now.Store(second)
	browser.Do(ctx, t, browser.Becomes(`subscribed === %d`, 2*sources))
	f.notify("t", "e1")
	browser.Do(ctx, t, browser.Becomes(`got === %d && sources.every(s => s.readyState === EventSource.OPEN)`, sources))
}

// The page asks for a token where one is needed, says why it is not connected, and shows the token nowhere.
func TestViewerAsksForAToken(t *testing.T) {
	asks := func(header http.Header, query string) error {
		r := &http.Request{Header: header, URL: &url.URL{RawQuery: query}}
		if token := gateway.Token(r); token != "open (sesame)" || query != "" {
			return gateway.Refuse(http.StatusUnauthorized, "a valid token is required")
		}
		return nil
	}
	f := newFixture(t, gateway.Config{
		Topics: []string{"*"}, Publish: []string{"*"},
		Authorize: func(r *http.Request, _ gateway.Access) error { return asks(r.Header, r.URL.RawQuery) },
	})
	ctx := browser.New(t)
	browser.Do(ctx, t, chromedp.Navigate(f.url("/#topic=kept")),
		browser.Becomes(`!document.querySelector("#access").hidden && document.querySelector("#why").innerText.includes("a valid token")`),
		chromedp.SendKeys(chromedp.CSS("#token"), "wrong"+kb.Enter),
		browser.Becomes(`!document.querySelector("#access").hidden && document.querySelector("#why").innerText.includes("a valid token") && document.querySelector("#token").value === ""`))
	browser.Picture(ctx, t, "viewer-token")
	browser.Do(ctx, t, chromedp.SendKeys(chromedp.CSS("#token"), "open (sesame)"+kb.Enter),
		browser.Becomes(`document.querySelector("#state").dataset.state === "connected" && document.querySelector("#access").hidden && document.querySelector("#why").innerText === ""`),
		browser.Becomes(`document.querySelector('#topics li[data-active="true"]')?.innerText.includes("kept")`))

	// As part of the address it is taken out of it, and goes on working in this tab.
	browser.Do(ctx, t, chromedp.Evaluate[chromedp.Void](`sessionStorage.clear()`),
		chromedp.Navigate(f.url("/?token=open+(sesame)#topic=t")),
		browser.Becomes(`document.querySelector('#topics li[data-active="true"]') !== null && !location.href.includes("sesame") && location.hash === "#topic=t"`),
		chromedp.Reload(),
		browser.Becomes(`document.querySelector('#topics li[data-active="true"]') !== null`),
		chromedp.SendKeys(chromedp.CSS("#publish-topic"), "t"), chromedp.SendKeys(chromedp.CSS("#publish-value"), `"said"`), chromedp.Click(chromedp.CSS("#publish button")),
		hasRow("said"))
}

// A long value is folded, what there is can be copied, and what was before is shown.
func TestViewerReplays(t *testing.T) {
	f, p := newStreamFixture(t, gateway.Config{Topics: []string{"a", "b", "plain"}})
	p.publish(t, "a", 1, 2)
	require.NoError(t, p.stream.Publish(t.Context(), "b", []int64{3}, strings.Repeat("a long text, ", 200)))
	proxy := f.behindProxy()
	ctx := browser.New(t)
	browser.Do(ctx, t, browser.Theme("light"), chromedp.Navigate(f.url("/")), browser.Becomes(`document.querySelector("#state").dataset.state === "connected"`),
		chromedp.SendKeys(chromedp.CSS("#since"), "earliest"), chromedp.SendKeys(chromedp.CSS("#topic"), "?"+kb.Enter),
		browser.Becomes(`document.querySelectorAll('#topics li[data-active="true"]').length === 2`),
		browser.Becomes(`document.querySelector("#count").innerText.startsWith("3 events")`), hasRow("a, b: as it happens"),
		browser.Becomes(`document.querySelector('li[data-folded="true"] .value').clientHeight < 100`))
	browser.Picture(ctx, t, "viewer-replay-light")
	browser.Do(ctx, t, browser.Theme("dark"), chromedp.Click(chromedp.CSS(`li[data-folded] .do button`)),
		browser.Becomes(`document.querySelector('li[data-folded="false"] .value').clientHeight > 100`))
	browser.Picture(ctx, t, "viewer-replay-dark")

	// The connection is lost, and nothing with it.
	proxy.Reset()
	p.publish(t, "a", 4)
	browser.Do(ctx, t, hasRow("connected again"), browser.Becomes(`document.querySelector("#count").innerText.startsWith("4 events")`),
		chromedp.EmulateViewport(400, 800), browser.Becomes(`document.querySelector(".stream").getBoundingClientRect().top < document.querySelector(".side").getBoundingClientRect().top`))
	browser.Picture(ctx, t, "viewer-replay-phone")
}

// What waits while the page is paused goes on waiting, whatever is done to the filter, and is counted whole.
func TestViewerCountsWhatWaits(t *testing.T) {
	f := newFixture(t, gateway.Config{Topics: []string{"*"}})
	ctx := browser.New(t)
	browser.Do(ctx, t, chromedp.Navigate(f.url("/#topic=t")), browser.Becomes(`document.querySelector('#topics li[data-active="true"]') !== null`))
	f.notify("t", `e:"before"`)
	browser.Do(ctx, t, hasRow("before"), chromedp.Focus(chromedp.CSS("#events")), chromedp.KeyEvent("p"))
	const many = 1500 // more than the page keeps
	_, err := f.pool.Exec(f.ctx(), `SELECT pg_notify('t', 'e' || n || ':"meanwhile"') FROM generate_series(1, $1) AS n`, many)
	require.NoError(t, err)
	count := func(text string) browser.Step {
		return browser.Becomes(`document.querySelector("#count").innerText === %q`, text)
	}
	browser.Do(ctx, t, count("1,501 events, 1,500 waiting"), hasRow("before"),
		chromedp.SendKeys(chromedp.CSS("#topic"), "other"+kb.Enter), // its advisory is no event
		browser.Becomes(`document.querySelectorAll('#topics li[data-active="true"]').length === 2`),
		shortcutFrom("#events", "/", "filter"), chromedp.KeyEvent("before"),
		browser.Becomes(`document.querySelector("#count").innerText.endsWith(" 1 of 2 lines match, 1,500 waiting")`), hasRow("before"),
		browser.Becomes(`!document.querySelector("#events").innerText.includes("meanwhile")`),
		chromedp.SendKeys(chromedp.CSS("#filter"), strings.Repeat(kb.Backspace, 6)), count("1,501 events, 1,500 waiting"),
		chromedp.Click(chromedp.CSS("#pause")), count("1,501 events"), hasRow("meanwhile"),
		chromedp.Click(chromedp.CSS("#pause")), chromedp.Click(chromedp.CSS("#clear")), count("0 events"))
}

// shortcutFrom presses a key as shortcut does, away from a field.
func shortcutFrom(element, key, field string) browser.Step {
	return chromedp.Steps(chromedp.Focus(chromedp.CSS(element)), shortcut(key, field))
}

// The page says that there is no server, and goes on when there is one again.
func TestViewerSaysThatTheServerCannotBeReached(t *testing.T) {
	f := newFixture(t, gateway.Config{Topics: []string{"t"}})
	proxy := f.behindProxy()
	ctx := browser.New(t)
	browser.Do(ctx, t, chromedp.Navigate(f.url("/#topic=t")), browser.Becomes(`document.querySelector('#topics li[data-active="true"]') !== null`))
	require.NoError(t, proxy.Refuse(true))
	proxy.Reset()
	browser.Do(ctx, t, browser.Becomes(`document.querySelector("#why").innerText === "the server cannot be reached" && document.querySelector("#state").innerText === "offline"`))
	require.NoError(t, proxy.Refuse(false))
	browser.Do(ctx, t, browser.Becomes(`document.querySelector("#why").innerText === "" && document.querySelector("#state").innerText === "connected"`))
}

// The value of an event, and its id, can be copied, and what follows an id is shown where it is typed.
func TestViewerGoesOnBehindAnID(t *testing.T) {
	f, p := newStreamFixture(t, gateway.Config{Topics: []string{"a"}})
	p.publish(t, "a", 1, 2, 3)
	ctx := browser.New(t)
	copied := func(button, from string) browser.Step {
		return chromedp.Steps(
			chromedp.Evaluate[chromedp.Void](fmt.Sprintf(`{
				const li = [...document.querySelectorAll("#events li")].find(li => li.querySelector(".value").innerText === %q);
				window.pressed = [...li.querySelectorAll("button")].find(b => b.textContent === %q);
				pressed.click();
			}`, from, button)), browser.Becomes(`pressed.textContent === "Copied"`),
			chromedp.Evaluate[chromedp.Void](`window.copied = null; navigator.clipboard.readText().then(text => { window.copied = text; });`), browser.Becomes(`window.copied !== null`))
	}
	begin := func(since browser.Step) browser.Step {
		return chromedp.Steps(chromedp.Focus(chromedp.CSS("#since")), since, chromedp.SendKeys(chromedp.CSS("#topic"), "a"+kb.Enter))
	}
	browser.Do(ctx, t, chromedp.Navigate(f.url("/")), browser.Clipboard(), browser.Becomes(`document.querySelector("#state").dataset.state === "connected"`),
		begin(chromedp.SendKeys(chromedp.CSS("#since"), "earliest")), browser.Becomes(`document.querySelector("#count").innerText === "3 events"`),
		copied("Copy", "2"), browser.Becomes(`window.copied === "2"`),
		copied("Id", "2"), browser.Becomes(`/^[\d.]+$/.test(window.copied)`),
		chromedp.Click(chromedp.CSS("#topics button")), browser.Becomes(`document.querySelectorAll("#topics li").length === 0`),
		chromedp.Click(chromedp.CSS("#clear")), browser.Becomes(`document.querySelector("#count").innerText === "0 events"`),
		begin(chromedp.Evaluate[chromedp.Void](`document.querySelector("#since").value = window.copied`)),
		browser.Becomes(`document.querySelector("#count").innerText === "1 event"`), hasRow("as it happens"),
		browser.Becomes(`[...document.querySelectorAll('li[data-kind="event"] .value')].map(v => v.innerText).join() === "3"`))
}
