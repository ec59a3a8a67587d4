package reliability

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
)

// The oracle is tested by lives that break one promise each. In all of them source 0 publishes an event on topic "t" each
// 10 ms, number n from 10n to 10n+5 ms after the epoch, but for the ones named below.

const oracleTick = time.Millisecond

func oracleLedger() ledger {
	var l ledger
	for n := 1; n <= 20; n++ {
		at := time.Duration(10*n) * oracleTick
		l = append(l, sending{topic: "t", started: at, ended: at + 5*oracleTick, fate: committed})
	}
	l[15].fate = unsent  // number 16
	l[16].fate = unknown // number 17
	return l
}

// lifeOf writes a stream from words: numbers of events, connect, subscribe, disconnect, reconnect@MS (queued at that time),
// lag*N, resync, unsubscribed, stop. Each happens when its event was committed or else right after what was before.
func lifeOf(text string) []lived {
	var stream []lived
	at := time.Duration(0)
	for _, word := range strings.Fields(text) {
		l := lived{topic: "t"}
		name, number := word, 0
		if i := strings.IndexAny(word, "@*"); i >= 0 {
			name, number = word[:i], atoi(word[i+1:])
		}
		switch {
		case name[0] >= '0' && name[0] <= '9':
			l.what, l.id = wasEvent, eventID{0, atoi(name)}
			at = max(at, time.Duration(10*l.id.number+5)*oracleTick)
		default:
			l.what, l.dropped = pghub.Action(name), uint64(number)
			at++
		}
		if l.what == pghub.ActionReconnect {
			l.dropped, l.since, l.until = 0, at, time.Duration(number)*oracleTick
			at = max(at, l.until)
		}
		l.at = at
		stream = append(stream, l)
	}
	return stream
}

func atoi(s string) (n int) {
	for _, c := range s {
		n = 10*n + int(c-'0')
	}
	return n
}

const oracleWhole = "connect subscribe 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 17 18 19 20 stop"

func TestSoakOracle(t *testing.T) {
	for _, test := range []struct{ name, life, violation string }{
		{"all is well", oracleWhole, ""},
		{"unknown fate: did not come", strings.Replace(oracleWhole, " 17", "", 1), ""},
		{"unknown fate: came late", "connect subscribe 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 18 19 17 20 stop", ""},
		{"a gap", "connect subscribe 1 2 3 disconnect reconnect@75 8 9 10 11 12 13 14 15 18 19 20 stop", ""},
		{"a lag", "connect subscribe 1 2 lag*3 6 7 8 9 10 11 12 13 14 15 17 18 19 20 stop", ""},
		{"a gap at the end", "connect subscribe 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 disconnect stop", ""},
		{"a dropped event", strings.Replace(oracleWhole, " 7", "", 1), "event 7 of source 0 on \"t\", begun at 70ms and committed by 75ms, is missing"},
		{"the first one dropped", strings.Replace(oracleWhole, " 1 ", " ", 1), "event 1 of source 0"},
		{"the last one dropped", strings.Replace(oracleWhole, " 20", "", 1), "event 20 of source 0"},
		{"dropped behind a gap", "connect subscribe 1 2 3 disconnect reconnect@75 9 10 11 12 13 14 15 18 19 20 stop", "event 8 of source 0"},
		{"dropped before a gap", "connect subscribe 1 3 4 disconnect reconnect@75 8 9 10 11 12 13 14 15 18 19 20 stop", "event 2 of source 0"},
		{"reconnect announced early", "connect subscribe 1 2 3 disconnect reconnect@45 8 9 10 11 12 13 14 15 18 19 20 stop", "event 5 of source 0"},
		{"twice", strings.Replace(oracleWhole, " 7", " 7 7", 1), "comes twice"},
		{"out of order", strings.Replace(oracleWhole, "7 8", "8 7", 1), "comes behind"},
		{"never published", strings.Replace(oracleWhole, " 20", " 20 21", 1), "was never published"},
		{"unsent", strings.Replace(oracleWhole, " 17", " 16 17", 1), "was said not to have been sent"},
		{"no disconnect", "connect subscribe 1 2 3 reconnect@75 8 9 10 11 12 13 14 15 18 19 20 stop", "out of turn"},
		{"no reconnect", "connect subscribe 1 2 3 disconnect 8 9 10 11 12 13 14 15 18 19 20 stop", "while there is no connection"},
		{"no connect", strings.TrimPrefix(oracleWhole, "connect "), "while there is no connection"},
		{"no subscribe", strings.Replace(oracleWhole, "subscribe ", "", 1), "without a subscription"},
		{"after Unsubscribe", strings.Replace(oracleWhole, " 20", " unsubscribed 20", 1), "without a subscription"},
		{"no stop", strings.TrimSuffix(oracleWhole, " stop"), "has no end"},
		{"stop is not the last", strings.Replace(oracleWhole, " 20 stop", " stop 20", 1), "after the final event"},
		{"a lag of nothing", strings.Replace(oracleWhole, " 20", " lag*0 20", 1), "of nothing"},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := &oracle{ledgers: []ledger{oracleLedger()}}
			w := &witness{name: "w", stream: lifeOf(test.life), beforehand: true, subscribed: []subscribed{{topic: "t", to: never}}}
			o.judge(w)
			requireViolation(t, o, test.violation)
		})
	}
}

func TestSoakOracleResync(t *testing.T) {
	gap := "connect subscribe 1 2 3 disconnect reconnect@75 8 9 10 11 12 13 14 15 18 19 20 stop"
	for _, test := range []struct{ name, life, violation string }{
		{"after a gap", strings.Replace(gap, " 8", " resync 8", 1), ""},
		{"none", gap, "before Resync"},
		{"late", strings.Replace(gap, " 8", " 8 resync", 1), "before Resync"},
		{"for nothing", strings.Replace(gap, " 8", " resync 8 resync", 1), "without a gap"},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := &oracle{ledgers: []ledger{oracleLedger()}}
			o.judgeResync(&witness{name: "w", stream: lifeOf(test.life), resyncs: true})
			requireViolation(t, o, test.violation)
		})
	}
}

// TestSoakOracleTime: two sources whose commits do not overlap in time have an order between them.
func TestSoakOracleTime(t *testing.T) {
	o := &oracle{ledgers: []ledger{
		{{topic: "t", started: 10, ended: 20, fate: committed}},
		{{topic: "t", started: 30, ended: 40, fate: committed}},
	}}
	event := func(source int) lived { return lived{what: wasEvent, topic: "t", id: eventID{source, 1}} }
	o.judgeOrder(&witness{stream: []lived{event(0), event(1)}})
	require.Empty(t, o.violations)
	o.judgeOrder(&witness{stream: []lived{event(1), event(0)}})
	requireViolation(t, o, "comes behind one begun")
}

func TestSoakOracleBeside(t *testing.T) {
	whole := newReference(&witness{name: "reference", stream: lifeOf(oracleWhole)})
	for _, test := range []struct{ name, life, violation string }{
		{"the same", oracleWhole, ""},
		{"a lag", strings.Replace(oracleWhole, "5 6 7", "lag*3", 1), ""},
		{"counts one too few", strings.Replace(oracleWhole, "5 6 7", "lag*2", 1), "where reference has"},
		{"counts one too many", strings.Replace(oracleWhole, "5 6 7", "lag*4", 1), "where reference has"},
		{"stands too late", strings.Replace(oracleWhole, "5 6 7 8", "8 lag*3", 1), "where reference has"},
		{"counts advisories", strings.Replace(oracleWhole, "connect subscribe 1", "lag*3", 1), "counts more than is missing"},
		{"no lag", strings.Replace(oracleWhole, " 7", "", 1), "where reference has"},
		{"ends early", strings.Replace(oracleWhole, " stop", "", 1), "ends where"},
		{"goes on", oracleWhole + " stop", "beyond the end"},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := &oracle{ledgers: []ledger{oracleLedger()}}
			o.judgeBeside(&witness{name: "w", stream: lifeOf(test.life)}, whole)
			requireViolation(t, o, test.violation)
		})
	}
}

// TestSoakOracleComesAndGoes: a consumer is subscribed from event 5 on.
func TestSoakOracleComesAndGoes(t *testing.T) {
	whole := newReference(&witness{name: "reference", stream: lifeOf(oracleWhole)})
	for _, test := range []struct {
		name, life string
		drained    time.Duration
		violation  string
	}{
		{"comes and goes", "subscribe 5 6 7 close", 80 * oracleTick, ""},
		{"comes twice", "subscribe 5 6 subscribe 9 10 close", 109 * oracleTick, ""},
		{"what was queued is lost", "subscribe 5 6 close", 80 * oracleTick, "was not delivered by Drain"},
		{"all is lost", "subscribe close", 80 * oracleTick, "was not delivered by Drain"},
		{"one is missing", "subscribe 5 7 close", 80 * oracleTick, "number 5 was to come"},
		{"a stranger", "subscribe 5 6 7 16 close", 80 * oracleTick, "did not come to reference"},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := &oracle{ledgers: []ledger{oracleLedger()}}
			w := &witness{name: "w", stream: lifeOf(test.life), subscribed: []subscribed{{topic: "t", from: 46 * oracleTick, to: 60 * oracleTick, left: true}}}
			o.judgeRuns(w, whole)
			o.judgeDrained(w, whole, test.drained)
			requireViolation(t, o, test.violation)
		})
	}
}

// requireViolation requires that the oracle has found what was wrong, or nothing where nothing was.
func requireViolation(t *testing.T, o *oracle, part string) {
	t.Helper()
	if part == "" {
		require.Empty(t, o.violations)
		return
	}
	require.Contains(t, strings.Join(o.violations, "\n"), part)
}
