package main

var coreArea = area{
	name:     "core",
	folder:   ".",
	packages: []string{"internal/reliability", "."},
	mutants: []mutant{
		// Advisories.
		{name: "reconnect announced before LISTEN", edits: []edit{
			{"listen.go", "\tr.wake = wake\n\tfor _, ch", `	r.wake = wake
	for c := range r.consumers {
		if gap := r.gap; r.connected && c.greeted {
			gap.Until = time.Now()
			r.adviseLocked(c, newAdvisory(Advisory{Action: ActionReconnect, Gap: gap}))
		}
	}
	for _, ch`},
			{"listen.go", "\t\tcase c.greeted:\n", "\t\tcase c.greeted && reconnect == nil:\n"},
		}, tests: []string{"TestFaultAnnounceReconnect", "TestSoak"}},
		sampled(one("reconnect announced before the last LISTEN", "listen.go",
			" || r.wake == nil || r.owed > 0 || ", " || r.wake == nil || ", "TestFaultAnnounceReconnect")),
		sampled(one("subscribe announced before LISTEN", "router.go",
			"if ch.listening && !ch.leaving && r.phase == phaseListening {\n\t\tr.activateLocked(sub)\n\t} else {",
			"if r.phase == phaseListening {\n\t\tr.activateLocked(sub)\n\t\tr.changedLocked(ch)\n\t} else {", "TestFaultAnnounceSubscribe")),
		one("Subscribe returns before LISTEN", "router.go",
			"if !inEffect && r.phase != phaseIdle {", "if !inEffect && r.phase != phaseIdle && r.phase != phaseListening {", "TestFaultAnnounceSubscribe"),
		one("no connect", "listen.go", "\t\t\tr.adviseLocked(c, connect)\n", "\t\t\t_ = connect\n", "TestFaultAnnounceStop TestSoak"),
		one("no disconnect", "listen.go", "\t\t\tr.adviseLocked(c, lost)\n", "\t\t\t_ = lost\n", "TestFaultProtocolFatal TestSoak"),
		one("no reconnect", "listen.go", "\t\t\tr.adviseLocked(c, reconnect)\n", "\t\t\t_ = reconnect\n", "TestFaultAnnounceReconnect TestSoak"),
		one("no lag", "queue.go", "\t\tq.lead = addLag(q.lead, drop)\n", "", "TestFaultAnnounceLag TestSoak"),
		one("no stop", "hub.go", "\t\tc.seal(final, false)\n", "\t\tc.seal(newAdvisory(Advisory{Action: ActionClose, Final: true}), false)\n", "TestFaultAnnounceStop"),
		sampled(one("events within the gap", "route.go", "if r.phase == phaseListening { // else within", "if r.phase == phaseListening || r.phase == phaseAway { // else within", "TestFaultAnnounceReconnect")),

		// Events.
		one("an event dropped from bursts", "route.go", "\treturn events[:kept]\n}", "\tif kept > 1 {\n\t\tkept--\n\t}\n\treturn events[:kept]\n}", "TestSoak"),
		one("an event twice in bursts", "route.go", "\treturn events[:kept]\n}",
			"\tif kept > 1 {\n\t\treturn append(events[:kept:kept], events[kept-1])\n\t}\n\treturn events[:kept]\n}", "TestSoak"),
		one("a burst out of order", "route.go", "\treturn events[:kept]\n}",
			"\tif kept > 1 {\n\t\tevents[0], events[1] = events[1], events[0]\n\t}\n\treturn events[:kept]\n}", "TestSoak"),
		one("what came before nonsense is forgotten", "session.go", "\t\t\tif len(burst) > 0 || more {\n", "\t\t\tif (len(burst) > 0 || more) && err == nil {\n", "TestFaultProtocolNonsense"),
		one("Stop does not wait for what is on its way", "supervisor.go", "\t\tsess.barrier(ctx)\n", "\t\t_ = sess\n", "TestFaultAnnounceStop"),

		// Queues and delivery.
		one("lag counts one too many", "queue.go", "run{newLag(next[0].Advisory.Dropped)}", "run{newLag(next[0].Advisory.Dropped + 1)}", "TestFaultAnnounceLag TestSoak"),
		one("lag counts one too few", "run.go", "r[0].Advisory.Dropped += uint64(n) }", "r[0].Advisory.Dropped += uint64(n - 1) }", "TestFaultAnnounceLag TestSoak"),
		one("lag out of its place", "queue.go", "\t\tq.appendLocked(runs, arriving-over)\n\t\tq.lagLocked(over)\n", "\t\tq.lagLocked(over)\n\t\tq.appendLocked(runs, arriving-over)\n", "TestFaultAnnounceLag TestSoak"),
		one("two workers for one consumer", "queue.go", "wake = !q.scheduled && !q.finished", "wake = !q.finished", "TestSoak"),
		sampled(one("a handler's end loses what was in hand", "queue.go", "hand = q.siftLocked(q.hand[done:])", "hand = q.siftLocked(q.hand[len(q.hand):])", "TestFaultAnnounceHandlerEnds")),
		one("Unsubscribe leaves what is queued", "router.go", "\t\tc.queue.revoke(inEffect...)\n", "", "TestSoak"),
		one("Drain discards what is queued", "consumer.go",
			"\tc.seal(newAdvisory(Advisory{Action: ActionClose, Final: true}), false)\n", "\tc.seal(newAdvisory(Advisory{Action: ActionClose, Final: true}), true)\n", "TestSoak"),
		one("no Resync after a lag", "consumer.go", "(a.Action == ActionReconnect || a.Action == ActionLag)", "a.Action == ActionReconnect", "TestFaultAnnounceResync TestSoak"),

		// The connection.
		sampled(one("a probe that never sends", "session.go", "\t\t\t\tdue = true\n", "\t\t\t\tdue = false\n", "TestTimeProbe TestTimeStopAtEachQuery")),
		one("a probe whose answer nobody awaits", "session.go", "\t\t\tcase busy:\n\t\t\t\treturn fmt.Errorf(\"%w within %v\", ErrProbe, limit)\n", "", "TestTimeProbe TestTimeUnansweredListen"),
		sampled(one("backoff without jitter", "consumer.go", "return rand.N(ceiling)", "return ceiling - rand.N(ceiling/100)", "TestTimeHerd TestTimeBackoff")),
		one("backoff without a bound", "consumer.go", "\tceiling := highest\n\tif lowest < highest>>failures {", "\tceiling := highest\n\tif failures < 30 {", "TestTimeBackoff"),
		one("backoff that starts anew at once", "supervisor.go", "if listened >= s.cfg.ReconnectMax {", "if listened > 0 {", "TestTimeBackoffStartsAnew"),
		one("a dead host that takes all the time", "connect.go", "if connCfg.ConnectTimeout == 0 {", "if false {", "TestFaultProtocolDeadHost"),
		one("a standby taken for a primary", "connect.go", "\tif standby {\n", "\tif false && standby {\n", "TestFaultStandbyAtStart"),
		one("a pooler that is believed", "connect.go", "senderCfg.OnNotification = nil", "_ = senderCfg.OnNotification", "TestFaultPgBouncerTransaction"),
		one("a listener that may be idle too long", "connect.go", "set_config('idle_session_timeout', '0', false)", "current_setting('idle_session_timeout')", "TestFaultServerIdleTimeout"),

		// What an operator sees.
		sampled(one("a line for every event", "report.go", "if now.Sub(last.at) < logSilence {", "if now.Sub(last.at) < 0 {", "TestOperatorIsNotFlooded")),
	},
}
