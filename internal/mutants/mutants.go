package main

// mutant is a wrong hub.
type mutant struct {
	name  string
	edits []edit
	tests []string // each of which must fail
}

// edit replaces a text that stands once in a file of the root package.
type edit struct {
	file, old, new string
}

func one(file, old, replacement string) []edit { return []edit{{file, old, replacement}} }

var mutants = []mutant{
	// Advisories.
	{"reconnect announced before LISTEN", []edit{
		{"listen.go", "\tr.wake = wake\n\tfor _, ch", `	r.wake = wake
	for c := range r.consumers {
		if gap := r.gap; r.connected && c.greeted {
			gap.Until = time.Now()
			r.adviseLocked(c, newAdvisory(Advisory{Action: ActionReconnect, Gap: gap}))
		}
	}
	for _, ch`},
		{"listen.go", "\t\tcase c.greeted:\n", "\t\tcase c.greeted && reconnect == nil:\n"},
	}, []string{"TestFaultAnnounceReconnect", "TestSoak"}},
	{
		"reconnect announced before the last LISTEN", one("listen.go",
			" || r.wake == nil || r.owed > 0 || ", " || r.wake == nil || "),
		[]string{"TestFaultAnnounceReconnect"},
	},
	{
		"subscribe announced before LISTEN", one("router.go",
			"if ch.listening && !ch.leaving && r.phase == phaseListening {\n\t\tr.activateLocked(sub)\n\t} else {",
			"if r.phase == phaseListening {\n\t\tr.activateLocked(sub)\n\t\tr.changedLocked(ch)\n\t} else {"),
		[]string{"TestFaultAnnounceSubscribe"},
	},
	{
		"Subscribe returns before LISTEN", one("router.go",
			"if !inEffect && r.phase != phaseIdle {", "if !inEffect && r.phase != phaseIdle && r.phase != phaseListening {"),
		[]string{"TestFaultAnnounceSubscribe"},
	},
	{
		"no connect", one("listen.go", "\t\t\tr.adviseLocked(c, connect)\n", "\t\t\t_ = connect\n"),
		[]string{"TestFaultAnnounceStop", "TestSoak"},
	},
	{
		"no disconnect", one("listen.go", "\t\t\tr.adviseLocked(c, lost)\n", "\t\t\t_ = lost\n"),
		[]string{"TestFaultProtocolFatal", "TestSoak"},
	},
	{
		"no reconnect", one("listen.go", "\t\t\tr.adviseLocked(c, reconnect)\n", "\t\t\t_ = reconnect\n"),
		[]string{"TestFaultAnnounceReconnect", "TestSoak"},
	},
	{
		"no lag", one("queue.go", "\t\tq.lead = addLag(q.lead, drop)\n", ""),
		[]string{"TestFaultAnnounceLag", "TestSoak"},
	},
	{
		"no stop", one("hub.go", "\t\tc.seal(final, false)\n", "\t\tc.seal(newAdvisory(Advisory{Action: ActionClose, Final: true}), false)\n"),
		[]string{"TestFaultAnnounceStop"},
	},
	{
		"events within the gap", one("route.go", "if r.phase == phaseListening { // else within", "if r.phase == phaseListening || r.phase == phaseAway { // else within"),
		[]string{"TestFaultAnnounceReconnect"},
	},

	// Events.
	{
		"an event dropped from bursts", one("route.go", "\treturn events[:kept]\n}", "\tif kept > 1 {\n\t\tkept--\n\t}\n\treturn events[:kept]\n}"),
		[]string{"TestSoak"},
	},
	{
		"an event twice in bursts", one("route.go", "\treturn events[:kept]\n}",
			"\tif kept > 1 {\n\t\treturn append(events[:kept:kept], events[kept-1])\n\t}\n\treturn events[:kept]\n}"),
		[]string{"TestSoak"},
	},
	{
		"a burst out of order", one("route.go", "\treturn events[:kept]\n}",
			"\tif kept > 1 {\n\t\tevents[0], events[1] = events[1], events[0]\n\t}\n\treturn events[:kept]\n}"),
		[]string{"TestSoak"},
	},
	{
		"what came before nonsense is forgotten", one("session.go", "\t\t\tif len(burst) > 0 || more {\n", "\t\t\tif (len(burst) > 0 || more) && err == nil {\n"),
		[]string{"TestFaultProtocolNonsense"},
	},
	{
		"Stop does not wait for what is on its way", one("supervisor.go", "\t\tsess.barrier(ctx)\n", "\t\t_ = sess\n"),
		[]string{"TestFaultAnnounceStop"},
	},

	// Queues and delivery.
	{
		"lag counts one too many", one("queue.go", "run{newLag(next[0].Advisory.Dropped)}", "run{newLag(next[0].Advisory.Dropped + 1)}"),
		[]string{"TestFaultAnnounceLag", "TestSoak"},
	},
	{
		"lag counts one too few", one("run.go", "r[0].Advisory.Dropped += uint64(n) }", "r[0].Advisory.Dropped += uint64(n - 1) }"),
		[]string{"TestFaultAnnounceLag", "TestSoak"},
	},
	{
		"lag out of its place", one("queue.go", "\t\tq.appendLocked(runs, arriving-over)\n\t\tq.lagLocked(over)\n", "\t\tq.lagLocked(over)\n\t\tq.appendLocked(runs, arriving-over)\n"),
		[]string{"TestFaultAnnounceLag", "TestSoak"},
	},
	{
		"two workers for one consumer", one("queue.go", "wake = !q.scheduled && !q.finished", "wake = !q.finished"),
		[]string{"TestSoak"},
	},
	{
		"a handler's end loses what was in hand", one("queue.go", "hand = q.siftLocked(q.hand[done:])", "hand = q.siftLocked(q.hand[len(q.hand):])"),
		[]string{"TestFaultAnnounceHandlerEnds"},
	},
	{
		"Unsubscribe leaves what is queued", one("router.go", "\t\tc.queue.revoke(inEffect...)\n", ""),
		[]string{"TestSoak"},
	},
	{
		"Drain discards what is queued", one("consumer.go",
			"\tc.seal(newAdvisory(Advisory{Action: ActionClose, Final: true}), false)\n", "\tc.seal(newAdvisory(Advisory{Action: ActionClose, Final: true}), true)\n"),
		[]string{"TestSoak"},
	},
	{
		"no Resync after a lag", one("consumer.go", "(a.Action == ActionReconnect || a.Action == ActionLag)", "a.Action == ActionReconnect"),
		[]string{"TestFaultAnnounceResync", "TestSoak"},
	},

	// The connection.
	{
		"a probe that never sends", one("session.go", "\t\t\t\tdue = true\n", "\t\t\t\tdue = false\n"),
		[]string{"TestTimeProbe", "TestTimeStopAtEachQuery"},
	},
	{
		"a probe whose answer nobody awaits", one("session.go", "\t\t\tcase busy:\n\t\t\t\treturn fmt.Errorf(\"%w within %v\", ErrProbe, limit)\n", ""),
		[]string{"TestTimeProbe", "TestTimeUnansweredListen"},
	},
	{
		"backoff without jitter", one("consumer.go", "return rand.N(ceiling)", "return ceiling - rand.N(ceiling/100)"),
		[]string{"TestTimeHerd", "TestTimeBackoff"},
	},
	{
		"backoff without a bound", one("consumer.go", "\tceiling := highest\n\tif lowest < highest>>failures {", "\tceiling := highest\n\tif failures < 30 {"),
		[]string{"TestTimeBackoff"},
	},
	{
		"backoff that starts anew at once", one("supervisor.go", "if listened >= s.cfg.ReconnectMax {", "if listened > 0 {"),
		[]string{"TestTimeBackoffStartsAnew"},
	},
	{
		"a dead host that takes all the time", one("connect.go", "if connCfg.ConnectTimeout == 0 {", "if false {"),
		[]string{"TestFaultProtocolDeadHost"},
	},
	{
		"a standby taken for a primary", one("connect.go", "\tif standby {\n", "\tif false && standby {\n"),
		[]string{"TestFaultStandbyAtStart"},
	},
	{
		"a pooler that is believed", one("connect.go", "senderCfg.OnNotification = nil", "_ = senderCfg.OnNotification"),
		[]string{"TestFaultPgBouncerTransaction"},
	},
	{
		"a listener that may be idle too long", one("connect.go", "set_config('idle_session_timeout', '0', false)", "current_setting('idle_session_timeout')"),
		[]string{"TestFaultServerIdleTimeout"},
	},

	// Notify.
	{
		"Notify says nil when it does not know", one("publisher.go", "\treturn fmt.Errorf(\"%w: %w\", ErrUnknownOutcome, err)\n}\n\n// refusesOne", "\treturn nil\n}\n\n// refusesOne"),
		[]string{"TestSoak"},
	},
	{
		"Notify says not sent when it does not know", one("publisher.go", "\treturn fmt.Errorf(\"%w: %w\", ErrUnknownOutcome, err)\n}\n\n// refusesOne", "\treturn fmt.Errorf(\"%w: %w\", ErrNotConnected, err)\n}\n\n// refusesOne"),
		[]string{"TestSoak"},
	},
	{
		"Notify in the encoding of the database", one("send.go", `return encoding == "UTF8" || encoding == ""`, `return encoding != "nothing of the kind"`),
		[]string{"TestFaultEncodingLatin1"},
	},

	// What an operator sees.
	{
		"a line for every event", one("report.go", "if now.Sub(last.at) < logSilence {", "if now.Sub(last.at) < 0 {"),
		[]string{"TestOperatorIsNotFlooded"},
	},
}
