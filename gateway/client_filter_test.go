package gateway_test

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/gateway"
)

func TestClientFilters(t *testing.T) {
	scripted(t, "filters", "filtersOfPatterns", "filtersOfOnePattern")
}

func TestClientKnowsItsArguments(t *testing.T) {
	scripted(t, "arguments")
}

func TestClientTellsOfGaps(t *testing.T) {
	scripted(t, "queue", "advisories")
}

// Two subscriptions of one topic want different events of it, through lost connections.
func TestClientInNodeFilters(t *testing.T) {
	f := newFixture(t, gateway.Config{Topics: []string{"a"}, HistoryEvents: 100})
	proxy := f.behindProxy()
	next := saying(t, nodeCommand(t, "filters.mjs", clientFile(t), f.url("/")))
	require.Empty(t, awaited(t, next, "ready"))
	for _, payload := range []string{`e9007199254740993,3:{"is":"other"}`, `e9007199254740992,2:{"is":"other"}`, `e:{"status":"sold"}`, `e9007199254740993,2:{"is":"more"}`} {
		f.notify("a", payload)
	}
	require.Equal(t, []line{{Type: "event", Topic: "a", Value: `{"is":"more"}`}}, awaited(t, next, "came"))
	awaited(t, next, "ready")
	for range 3 {
		for _, payload := range []string{`e9007199254740993,3:{"is":"other"}`, `e:{"status":"sold"}`, `e9007199254740993,2:{"is":"mine"}`} {
			f.notify("a", payload)
		}
		proxy.Reset()
	}
	f.notify("a", `e9007199254740993,2:{"is":"end","status":"sold"}`)
	got := make([][]string, 2)
	for l, more := next(); more; l, more = next() {
		require.Empty(t, l.Error)
		if l.State == "" {
			got[l.Client] = append(got[l.Client], l.Value)
		}
	}
	const mine, sold, end = `{"is":"mine"}`, `{"status":"sold"}`, `{"is":"end","status":"sold"}`
	require.Equal(t, [][]string{{mine, mine, mine, end}, {sold, sold, sold, end}}, got)
}

// What client.d.ts says that there is the module has, and the reverse.
func TestClientHasItsTypes(t *testing.T) {
	out, err := nodeCommand(t, "exported.mjs", clientFile(t)).Output()
	require.NoError(t, err)
	var has map[string][]string // names, with members where it is a class
	require.NoError(t, json.Unmarshal(out, &has))
	text, err := os.ReadFile("client/client.d.ts")
	require.NoError(t, err)
	said := map[string][]string{}
	comments := regexp.MustCompile(`(?s)/\*.*?\*/`)
	for _, part := range regexp.MustCompile(`(?m)^export `).Split(comments.ReplaceAllString(string(text), ""), -1) {
		kind, rest, _ := strings.Cut(part, " ")
		if kind != "function" && kind != "class" {
			continue // of types alone
		}
		name := regexp.MustCompile(`^\w+`).FindString(rest)
		members := []string{}
		for _, m := range regexp.MustCompile(`(?m)^  (?:readonly )?([\w.\[\]]+)\??[:(<]`).FindAllStringSubmatch(rest, -1) {
			if m[1] != "constructor" {
				members = append(members, m[1])
			}
		}
		slices.Sort(members)
		said[name] = slices.Compact(members)
	}
	require.Equal(t, said, has)
}
