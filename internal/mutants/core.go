package main

var coreArea = area{
	name:     "core",
	folder:   ".",
	packages: []string{"internal/reliability", "."},
	mutants: []mutant{
		// Advisories.
		{name: "reconnect announced before LISTEN", edits: []edit{
			{"listen.go", "\tr.wake, r.startErr = wake, nil\n\tfor _, ch", `	r.wake, r.startErr = wake, nil
	for c := range r.consumers {
		if gap := r.gap; r.connected && c.greeted {
			gap.Until = time.Now()
			r.adviseLocked(c, newAdvisory(Advisory{Action: ActionReconnect, Gap: gap}))
		}
	}
	for _, ch`},
			{"advise.go", "\t\tcase c.greeted:\n", "\t\tcase c.greeted && reconnect == nil:\n"},
		}, tests: []string{"TestFaultAnnounceReconnect", "TestSoak"}},
		sampled(one("reconnect announced before the last LISTEN", "advise.go",
			" || r.wake == nil || r.owed > 0 || ", " || r.wake == nil || ", "TestFaultAnnounceReconnect")),
		sampled(one("subscribe announced before LISTEN", "router.go",
			"if ch := sub.ch; r.phase == phaseListening && ch.state == channelListening {\n\t\t\tr.activateLocked(sub)\n\t\t} else {",
			"if ch := sub.ch; r.phase == phaseListening {\n\t\t\tr.activateLocked(sub)\n\t\t\tr.changedLocked(ch)\n\t\t} else {", "TestFaultAnnounceSubscribe")),
		one("Subscribe returns before LISTEN", "router.go",
			"if !inEffect && r.phase != phaseIdle {", "if !inEffect && r.phase != phaseIdle && r.phase != phaseListening {", "TestFaultAnnounceSubscribe"),
		one("no connect", "advise.go", "\t\t\tr.adviseLocked(c, connect)\n", "\t\t\t_ = connect\n", "TestFaultAnnounceStop TestSoak"),
		one("no disconnect", "listen.go", "\t\t\tr.adviseLocked(c, lost)\n", "\t\t\t_ = lost\n", "TestFaultProtocolFatal TestSoak"),
		one("no reconnect", "advise.go", "\t\t\tr.adviseLocked(c, reconnect)\n", "\t\t\t_ = reconnect\n", "TestFaultAnnounceReconnect TestSoak"),
		one("no lag", "queue.go", "\t\tq.lead = addLag(q.lead, drop)\n", "", "TestFaultAnnounceLag TestSoak"),
		one("no stop", "hub.go", "\t\tc.seal(final, false)\n", "\t\tc.seal(newAdvisory(Advisory{Action: ActionClose, Final: true}), false)\n", "TestFaultAnnounceStop"),
		sampled(one("events within the gap", "route.go", "fed && r.phase == phaseAway { // else within", "r.phase == phaseAway { // else within", "TestFaultAnnounceReconnect")),

		// Events.
		one("an event dropped from bursts", "route.go", "\treturn events[:kept]\n}", "\tif kept > 1 {\n\t\tkept--\n\t}\n\treturn events[:kept]\n}", "TestSoak"),
		one("an event twice in bursts", "route.go", "\treturn events[:kept]\n}",
			"\tif kept > 1 {\n\t\treturn append(events[:kept:kept], events[kept-1])\n\t}\n\treturn events[:kept]\n}", "TestSoak"),
		one("a burst out of order", "route.go", "\treturn events[:kept]\n}",
			"\tif kept > 1 {\n\t\tevents[0], events[1] = events[1], events[0]\n\t}\n\treturn events[:kept]\n}", "TestSoak"),
		one("what came before nonsense is forgotten", "session.go", "\t\t\tif len(burst) > 0 || more {\n", "\t\t\tif (len(burst) > 0 || more) && err == nil {\n", "TestFaultProtocolNonsense"),
		one("Stop does not wait for what is on its way", "supervisor.go", "\t\tsess.Barrier(ctx)\n", "\t\t_ = sess\n", "TestFaultAnnounceStop"),

		// Queues and delivery.
		one("lag counts one too many", "queue.go", "run{newLag(first[0].Advisory.Dropped)}", "run{newLag(first[0].Advisory.Dropped + 1)}", "TestFaultAnnounceLag TestSoak"),
		one("lag counts one too few", "ring.go", "r[0].Advisory.Dropped += uint64(n) }", "r[0].Advisory.Dropped += uint64(n - 1) }", "TestFaultAnnounceLag TestSoak"),
		one("lag out of its place", "queue.go", "\t\tq.appendLocked(arrived, runs, arriving-over)\n\t\tq.lagLocked(over)\n", "\t\tq.lagLocked(over)\n\t\tq.appendLocked(arrived, runs, arriving-over)\n", "TestFaultAnnounceLag TestSoak"),
		one("two workers for one consumer", "queue.go", "wake = !q.scheduled && !q.finished", "wake = !q.finished", "TestSoak"),
		sampled(one("a handler's end loses what was in hand", "delivery.go", "\t\t\td.add(c)\n", "\t\t\tc.queue.at = len(c.queue.hand)\n\t\t\td.add(c)\n", "TestFaultAnnounceHandlerEnds")),
		one("Unsubscribe leaves what is queued", "router.go", "\t\tc.queue.revoke(inEffect...)\n", "", "TestSoak"),
		one("Drain discards what is queued", "consumer.go",
			"\tc.seal(newAdvisory(Advisory{Action: ActionClose, Final: true}), false)\n", "\tc.seal(newAdvisory(Advisory{Action: ActionClose, Final: true}), true)\n", "TestSoak"),
		one("no Resync after a lag", "turn.go", "a.wantsResync()", "a.wantsResync() && a.Action != ActionLag", "TestFaultAnnounceResync TestSoak"),

		// The connection.
		sampled(one("a probe that never sends", "session.go", "\t\t\t\tdue = true\n", "\t\t\t\tdue = false\n", "TestTimeProbe TestTimeStopAtEachQuery")),
		one("a probe whose answer nobody awaits", "session.go", "\t\t\tcase busy:\n\t\t\t\treturn fmt.Errorf(\"%w within %v\", ErrProbe, limit)\n", "", "TestTimeProbe TestTimeUnansweredListen"),
		sampled(one("backoff without jitter", "turn.go", "return rand.N(ceiling)", "return ceiling - rand.N(ceiling/100)", "TestTimeHerd TestTimeBackoff")),
		one("backoff without a bound", "turn.go", "\tceiling := highest\n\tif lowest < highest>>failures {", "\tceiling := highest\n\tif failures < 30 {", "TestTimeBackoff"),
		one("backoff that starts anew at once", "supervisor.go", "if listened >= s.cfg.ReconnectMax {", "if listened > 0 {", "TestTimeBackoffStartsAnew"),
		one("a dead host that takes all the time", "connect.go", "if connCfg.ConnectTimeout == 0 {", "if false {", "TestFaultProtocolDeadHost"),
		one("a standby taken for a primary", "connect.go", "\tif standby {\n", "\tif false && standby {\n", "TestFaultStandbyAtStart"),
		one("a pooler that is believed", "connect.go", "senderCfg.OnNotification = nil", "_ = senderCfg.OnNotification", "TestFaultPgBouncerTransaction"),
		one("a listener that may be idle too long", "internal/pgwire/settings.go", "set_config('idle_session_timeout', '0', false)", "current_setting('idle_session_timeout')", "TestFaultServerIdleTimeout"),

		// What an operator sees.
		sampled(one("a line for every event", "report.go", "if now.Sub(last.at) < logSilence {", "if now.Sub(last.at) < 0 {", "TestOperatorIsNotFlooded")),

		// Ends.
		sampled(one("a failed Start that does not cut off", "hub.go", "\th.beginStop(err)\n\th.cutOff()\n", "\th.beginStop(err)\n", "TestFaultFailedStartCutsOff")),
		one("Stop of another hub within a handler", "hub.go", "if c := ConsumerFrom(ctx); c != nil && c.hub == h {", "if c := ConsumerFrom(ctx); c != nil {", "TestFaultStopOfAnotherHub"),
		sampled(one("Drain of another consumer within a handler", "consumer.go", "\tif slices.Contains(callers, c) {\n", "\tif len(callers) > 0 {\n", "TestFaultDrainOfAnotherConsumer")),
		sampled(one("the listener stopped before the publisher", "hub.go", "\tif h.publisher != nil {\n\t\th.publisher.close(h.cut)\n\t}\n\th.stopGuests(h.cut)\n\tif started {\n\t\th.supervisor.stop(h.cut)\n\t}\n", "\tif started {\n\t\th.supervisor.stop(h.cut)\n\t}\n\tif h.publisher != nil {\n\t\th.publisher.close(h.cut)\n\t}\n", "TestFaultConfirmedEventsArriveBeforeStop")),
		one("a handler's Goexit that keeps its place", "delivery.go", "\t\t\ts.workers--\n\t\t\td.mu.Unlock()\n\t\t\td.add(c)\n", "\t\t\td.mu.Unlock()\n\t\t\td.add(c)\n", "TestFaultGoexitCostsNoTime"),
		one("a consumer that is kept for ever", "hub.go", "\th.router.forget(c)\n", "", "TestOperatorForgetsThoseWhoAreGone"),
		one("a handler's context that never ends", "hub.go", "\tc.cancel()\n\tc.resyncing.stop()\n", "\tc.resyncing.stop()\n", "TestOperatorForgetsThoseWhoAreGone"),
		one("Close that delivers what is queued", "consumer.go", "\tc.seal(final, true)\n\tc.cancel()\n", "\tc.seal(final, false)\n\tc.cancel()\n", "TestOperatorForgetsThoseWhoAreGone"),

		// A server that misbehaves.
		sampled(one("no write deadline for LISTEN and probes", "session.go", "\t\t\tif err := s.conn.SetWriteDeadline(time.Now().Add(s.cfg.ProbeTimeout)); err != nil {\n\t\t\t\treturn err\n\t\t\t}\n", "", "TestFaultDeafServerProbed TestFaultDeafServerAsked")),
		one("no write deadline for Terminate", "session.go", "\t_ = s.conn.SetWriteDeadline(time.Now().Add(terminateWriteTimeout))\n", "", "TestFaultDeafServerLeft"),
		one("a FATAL in another language", "session.go", "cmp.Or(msg.SeverityUnlocalized, msg.Severity)", "cmp.Or(msg.Severity)", "TestFaultProtocolFatalInAnyLanguage"),
		one("a FATAL through a pooler", "session.go", "cmp.Or(msg.SeverityUnlocalized, msg.Severity)", "cmp.Or(msg.SeverityUnlocalized)", "TestFaultProtocolFatalInAnyLanguage"),
		one("an answer to nothing is taken", "session.go", "\t\treturn fmt.Errorf(\"%w: an answer to nothing\", pgwire.ErrProtocol)\n", "\t\treturn nil\n", "TestFaultProtocolNonsense"),
		one("messages of unknown types are passed over", "session.go", "\t\treturn fmt.Errorf(\"%w: message %q\", pgwire.ErrProtocol, f.Type)\n", "\t\treturn nil\n", "TestFaultProtocolNonsense"),
		one("probes while events arrive", "session.go", "\t\t\tcase silence < limit:\n\t\t\t\tprobe.Reset(limit - silence)\n", "\t\t\tcase silence < 0:\n\t\t\t\tprobe.Reset(limit - silence)\n", "TestTimeProbe"),
		one("a standby that is not asked whether it is one", "statement.go", "len(msg.Values) == 1 && string(msg.Values[0]) == \"t\"", "len(msg.Values) == 0", "TestAServerThatBecomesAStandbyIsLeft"),
		one("a standby that says so, and is not heard", "statement.go", "msg.Name == \"in_hot_standby\"", "msg.Name == \"\"", "TestAServerThatBecomesAStandbyIsLeft"),
		one("another encoding", "statement.go", "msg.Value != \"UTF8\"", "msg.Value == \"\"", "TestAnotherEncodingIsLeft"),
		one("rows that nobody asked for", "statement.go", "len(s.sent) == 0 || s.sent[0].sql != probeSQL", "false", "TestFaultProtocolNonsense"),
		one("a frozen listener that keeps the queue", "internal/pgwire/settings.go", "\"tcp_user_timeout\", 60_000", "\"tcp_user_timeout\", 600_000", "TestTheServerWatchesTheListener"),
		one("settings that overrule the user's", "internal/pgwire/settings.go", "!given", "given || !given", "TestTheServerWatchesTheListener"),
		one("a refused topic that is not tried again", "session.go", "\t\t\ts.sink.Retry()\n", "", "TestFaultProtocolRefusedTopicIsTriedAgain"),

		one("a refused UNLISTEN that keeps callers waiting", "listen.go", "\t\tr.settledLocked(ch)\n\t}\n\tif ch.state == channelListening && r.phase", "\t}\n\tif ch.state == channelListening && r.phase", "TestRouterRefusalToLeave"),
		one("a probe that forgets the barriers", "session.go", "sql: probeSQL, barriers: s.barriers}", "sql: probeSQL}", "TestAProbeIsABarrierToo"),
		one("a late gap that begins with the last loss", "listen.go", "if ch.missing.IsZero() && len(ch.groups) > 0 {", "if len(ch.groups) > 0 {", "TestRouterRefusalInSeveralSessions"),

		// Figures.
		one("unwanted events counted by the burst", "route.go", "\t\t\tr.unwanted += uint64(n)\n", "\t\t\tr.unwanted++\n", "TestOperatorCountsEachEvent"),
		one("received events counted by the burst", "route.go", "\tr.received += uint64(len(burst))\n", "\tr.received++\n", "TestOperatorCountsEachEvent"),
		one("the waiting are not summed", "queue.go", "inHand - 1 + q.events", "inHand - 1", "TestOperatorCountsEachEvent"),
		one("undecodable events not counted", "route.go", "\t\t\tr.undecodable++\n", "", "TestOperatorForgetsThoseWhoAreGone"),
		one("panics not counted", "turn.go", "\t\t\tc.count().panics.Add(1)\n\t\t\tc.hub.report", "\t\t\tc.hub.report", "TestOperatorForgetsThoseWhoAreGone"),

		sampled(one("an age that begins when the handler does", "queue.go", "\t\tfirst, q.handSince = front.run, front.arrived", "\t\tfirst, q.handSince = front.run, q.handSince", "TestQueueModel")),
		one("arrival of the burst before", "route.go", "\tr.arrived = time.Since(r.began)\n", "\tdefer func() { r.arrived = time.Since(r.began) }()\n", "TestOldest"),
		one("gaps of loops not counted", "events.go", "\t\tc.note(ev)\n", "", "TestGapsAreCounted"),
		one("a first load counted as a gap", "tally.go", "a.Action != \"\" && a.wantsResync()", "a.wantsResync()", "TestGapsAreCounted"),
		one("calls of Resync that fail not counted", "turn.go", "\t\t\tc.count().resyncErrors.Add(1)\n", "", "TestGapsAreCounted"),
		sampled(one("sums by name that fall", "router.go", "\t\tr.accountLocked(c.name).add(c.figures())\n", "\t\tr.accountLocked(\"\").add(c.figures())\n", "TestStatsByName")),
		one("names without bound", "tally.go", "len(r.accounts) >= maxAccounts", "len(r.accounts) < 0", "TestStatsByName"),

		// Middleware.
		sampled(one("middleware inside out", "middleware.go", "for i := len(middleware) - 1; i >= 0; i-- {", "for i := range middleware {", "TestMiddleware")),
		one("a timeout that never ends", "middleware.go", "context.WithTimeout(ctx, d)", "context.WithTimeout(ctx, d+time.Hour)", "TestTimeout"),

		// Queues, delivery, brake.
		one("DropNewest drops the oldest", "queue.go", "\tcase DropNewest:\n", "\tcase DropNewest + 100:\n", "TestSoak"),
		one("a closed slow consumer that does not say how much", "queue.go", "\t\t\tclosed.Dropped = q.dropped\n", "", "TestFaultAnnounceSlowConsumerIsClosed"),
		one("a closed slow consumer counts only the overflow", "queue.go", "\t\tq.dropped += uint64(q.events + arriving - over)\n", "", "TestFaultAnnounceSlowConsumerIsClosed"),
		one("a queue of one event less", "queue.go", "over := arriving - (q.limit - q.events)", "over := arriving - (q.limit - 1 - q.events)", "TestFaultAnnounceLag"),
		one("a panic takes the turn along", "turn.go", "\t\tif !ev.isResyncMark() {\n\t\t\tc.queue.done()", "\t\tif returned {\n\t\t\tc.queue.done()", "TestOperatorForgetsThoseWhoAreGone"),
		one("Resync that is called once and no more", "turn.go", "ok && c.tryResync(leave) {", "ok && (c.tryResync(leave) || true) {", "TestFaultAnnounceResync TestSoak"),
		one("Resync without a pause", "turn.go", "\t\tif n := c.owed.failures; n > 0 {", "\t\tif n := c.owed.failures; n > 1000 {", "TestTimeResyncBacksOff"),
		one("a limit of the cluster that is none", "resync_cluster.go", "rand.Perm(g.limit)", "rand.Perm(g.limit + 100)[:g.limit]", "TestResyncClusterLimit"),
		one("a place of the cluster that is kept", "resync_cluster.go", "if g.users--; g.users > 0 {", "if g.users--; g.users >= 0 {", "TestResyncClusterLimit"),
		one("a place of the cluster that cannot be had, and is insisted on", "resync.go", "		case c.ctx.Err() == nil:\n", "		case c.ctx.Err() == nil:\n			<-c.ctx.Done()\n", "TestResyncClusterLimitEnds"),
		one("a shift that never grows", "delivery.go", "max(min(2*s.size, waiting), fewest)", "fewest", "TestTimeStuckHandlersDelayNobody"),
		one("a shift that has grown and stays so", "delivery.go", "\tif s.size > fewest {", "\tif false {", "TestDeliveryShrinks"),
		one("a watch that does not look again", "delivery.go", "\tif waiting > hired && !d.watching {\n", "\tif waiting > hired && d.timer == nil {\n", "TestTimeStuckHandlersDelayNobody"),
		one("a brake that is never released", "brake.go", "\tcase <-moment.C:\n", "\tcase <-make(chan int):\n", "TestTimeBrakeEndsByItself"),
	},
}
